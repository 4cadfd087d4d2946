"""Mail that comes back to us: bytes → what kind of mail it is, and what follows from it. Pure.

mail        bytes → headers and parts, bounded in time and memory
markup      HTML as the lines a reader sees
bounces     notices of mail servers: the parts that machines read, and
notices     those in words; dialects knows older servers; notifications Amazon's
answers     one recipient: codes, command, reason                     ← reasons
reasons     why a mail came back, as data
complaints  readers who pressed "spam" (RFC 5965)
reports     DMARC and TLS reports, unpacked safely
automatic   answers that no person wrote (RFC 3834)
replies     what a person wrote, without quotes and signature; its label    ← labels
labels      what an answer means, as data
returns     when somebody who is away is back
tokens      the signed envelope sender that names a message (VERP)
verdict     all of it: `classify(raw)`
"""
