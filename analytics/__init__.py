"""What came of it: reads only.

dashboard   the numbers of an agency's front page
operation   the numbers of the operator's, over all agencies
views       the front page
"""
