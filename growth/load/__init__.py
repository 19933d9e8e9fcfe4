"""Load: plays a sale against a running service, measures what shoppers feel, and judges whether a law was broken.

An edge, like the command line: it knows the service by its HTTP contract alone, and imports no room.

- The generator is a process of its own, on a core of its own where there are two: `generator` (what it is told and
  tells) · `engine` (when a request goes out) · `wire` (how) · `crowd` (who asks for what) · `recorder`, `histogram`.
- The conductor is the process you started: `spike`, `steps`, `calibrate` (the plot) · `service` (operator and shop) ·
  `processes` (CPU of everything) · `laws` (the verdict) · `report`, `page`, `charts`, `screen` (what you see).

**Open loop.** Requests are due on a schedule that does not wait for answers, and latency counts from the due time: a
service that stalls for a second is charged that second by everyone who came meanwhile. A generator that only sends
the next request when the last is answered would show one slow request instead, and call it a good percentile.
"""
