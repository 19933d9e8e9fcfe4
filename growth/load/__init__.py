"""The load tool plays a sale against a service, measures what shoppers feel, and judges whether a law was broken.

It knows the service by its HTTP contract alone: an import contract keeps it from all but the vocabulary. What a request
costs beside a bare server is measured by `scripts/bench`, which knows rooms from inside and is not in the wheel.

- The generator is a process of its own, on a core of its own where there are two: `generator` (what it is told and
  tells) · `engine`, `fine_timer` (when a request goes out) · `http_client` (how) · `crowd` (who asks for what) ·
  `recorder`, `histogram` · `null_server` (what the generator can do when nobody else works).
- The conductor is the process you started: `spike`, `steps`, `calibrate` (the plot) · `service` (operator and shop) ·
  `processes` (CPU of everything) · `laws` (the verdict) · `report`, `page`, `charts`, `text`, `screen` (what you see).
- Other evenings than a sale: `scene`.

**Open loop.** Requests are due on a schedule that does not wait for answers, and latency counts from the due time: a
service that stalls for a second is charged that second by everyone who came meanwhile. A generator that only sends
the next request when the last is answered would show one slow request instead, and call it a good percentile.
"""
