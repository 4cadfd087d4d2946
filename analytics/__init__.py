"""What came of it: reads only.

dashboard   the numbers of an agency's front page
views       the front page
"""
