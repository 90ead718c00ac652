"""The rows: names, titles, and what measures them."""

import clients
import delivery

# By name: what it is, and what measures it. Bars are for a quiet machine.
ROWS = {
    "flv-40": ("FLV, 2.15 Mbit/s, merged for 40 ms", delivery.flv_40),
    "flv-350": ("FLV, 2.15 Mbit/s, merged for 350 ms", delivery.flv_350),
    "ts-40": ("MPEG-TS, merged for 40 ms", delivery.ts_40),
    "ws-40": ("FLV over WebSocket, merged for 40 ms", delivery.ws_40),
    "aac-40": ("AAC, 131 kbit/s, merged for 40 ms", delivery.aac_40),
    "aac-350": ("AAC, 131 kbit/s, merged for 350 ms", delivery.aac_350),
    "mp3-40": ("MP3, 128 kbit/s, merged for 40 ms", delivery.mp3_40),
    "https-40": ("FLV over HTTPS, merged for 40 ms; the floor is rustls alone", delivery.https_40),
    "rtmp-40": ("RTMP players, merged for 40 ms", delivery.rtmp_40),
    "memory": ("memory of a viewer", clients.memory),
    "latency": ("added latency with min_latency", clients.latency),
    "idle-172": ("publishers of 172 kbit/s without viewers", clients.idle_172),
    "ingest-4000": ("publishers of 4 Mbit/s without viewers", clients.ingest_4000),
    "merge": ("FLV by the length of a merge", delivery.merge),
    "cores": ("one core against two", delivery.cores),
    "scale": ("viewers of a stream of 172 kbit/s, merged for 350 ms", delivery.scale),
    "joins": (f"{clients.JOINS_PER_S} joins a second beside others", clients.joins),
    "stalled": ("a quarter of the viewers reads nothing", clients.stalled),
    "stalled-memory": ("memory of viewers that read nothing", clients.stalled_memory),
    "access": ("signed URLs and a hook for each viewer", delivery.access),
    "observed": ("access log and scraped metrics", delivery.observed),
}

# Rows without a bar of their own, or that compare the host with itself: by name, or with --full.
OPTIONAL = ("merge", "access", "observed")
