"""A mail of about 5 kB, HTML and plain text, personal in both: what the engine and its rivals all send."""

from typing import Any

SUBJECT = "{{ first_name }}, a second look at how {{ company }} ships to {{ city }}"

_ITEMS = [
    ("One place for every order", "Orders of all your shops arrive in one list, and none is typed in twice."),
    ("Rates before you promise", "Your people see price and day of delivery while the customer is still there."),
    ("Labels without a printer room", "A label costs one click, in the format that each carrier asks for."),
    ("Returns that explain themselves", "The customer prints what is needed; you see the reason before the parcel."),
    ("A bill you can check", "Each invoice of a carrier is compared with what was agreed, line by line."),
]
_ROW = (
    '<tr><td style="padding:12px 0;border-bottom:1px solid #e6e8f0;font-family:Arial,Helvetica,sans-serif">'
    '<b style="color:#1c1847;font-size:15px">{head}</b><br>\n'
    '<span style="color:#4a4f63;font-size:14px">{text}</span></td></tr>\n'
)

HTML = (
    '<!doctype html>\n<html><head><meta charset="utf-8"><title>{{ company }}</title></head>\n'
    '<body style="margin:0;background:#f5f6fb">\n<table role="presentation" width="100%"><tr><td align="center">\n'
    '<table role="presentation" width="600" style="background:#ffffff;padding:24px">\n'
    '<tr><td style="font-family:Arial,Helvetica,sans-serif;font-size:15px;color:#2b2f42">\n'
    "<p>Hello {{ first_name }} {{ last_name }},</p>\n"
    "<p>last week I wrote about the way {{ company }} sends its parcels from {{ city }}. Three firms of your size,\n"
    "all on the {{ plan }} plan, moved since then, and I would like to show you what changed for them in the first\n"
    "month.</p>\n"
    "{% if plan == 'team' %}<p>For a team of your size the first month costs nothing.</p>\n{% endif %}"
    "</td></tr>\n"
    + "".join(_ROW.format(head=head, text=text) for head, text in _ITEMS)
    + '<tr><td style="padding:20px 0;font-family:Arial,Helvetica,sans-serif">\n'
    '<a href="https://shop.example/start?for={{ email | url_encode }}&amp;plan={{ plan }}" '
    'style="background:#4a3fd6;color:#ffffff;padding:10px 18px">See it with the numbers of {{ company }}</a>\n'
    "<p>Would Thursday suit you, {{ first_name }}? Twenty minutes are enough.</p>\n"
    "<p>Kind regards<br>\nAnna Berzina</p>\n"
    '<p style="font-size:12px;color:#7a7f92">You get this because {{ email }} is listed as the contact of\n'
    '{{ company }}. <a href="https://shop.example/leave?who={{ email | url_encode }}">No more of these</a></p>\n'
    "</td></tr></table>\n</td></tr></table>\n</body></html>\n"
)

TEXT = (
    "Hello {{ first_name }} {{ last_name }},\n\n"
    "last week I wrote about the way {{ company }} sends its parcels from {{ city }}.\n"
    "Three firms of your size, all on the {{ plan }} plan, moved since then, and I\n"
    "would like to show you what changed for them in the first month.\n\n"
    + "".join(f"* {head}\n  {text}\n" for head, text in _ITEMS)
    + "\nSee it with the numbers of {{ company }}:\n"
    "https://shop.example/start?for={{ email | url_encode }}&plan={{ plan }}\n\n"
    "Would Thursday suit you, {{ first_name }}? Twenty minutes are enough.\n\n"
    "Kind regards\nAnna Berzina\n\n"
    "You get this because {{ email }} is listed as the contact of {{ company }}.\n"
    "No more of these: https://shop.example/leave?who={{ email | url_encode }}\n"
)


def contact(number: int) -> dict[str, Any]:
    """What the templates name, for the contact of this number; scene.CONTACTS makes the like in SQL."""
    return {
        "email": f"person{number}@firm{number % 5000}.example",
        "first_name": f"Name{number % 997}",
        "last_name": f"Family{number}",
        "company": f"Firm {number % 5000} & Sons",
        "city": "Riga",
        "plan": "team" if number % 2 else "solo",
    }
