"""Where the kernels find what the host prepared: one array of uint32 words per job, then one row of words per
midstate."""

from __future__ import annotations

_SCHEDULE_NAMES = (
    *("w0", "w1", "w2"),
    *("w16", "w17", "w18_without_nonce", "w19_without_nonce", "w31_job_terms", "w32_job_terms"),
)
#: Word index of each job constant of the message schedule.
SCHEDULE = {name: index for index, name in enumerate(_SCHEDULE_NAMES)}
#: Word index of the target's top 32 bits.
LIMIT = len(SCHEDULE)
#: Words before the first midstate row: one cache line.
JOB_WORDS = 16

_MIDSTATE_NAMES = (
    *(f"feed{index}" for index in range(8)),
    *("a4", "a3", "b3", "c3", "e4", "e3", "f3", "g3"),  # the state after round 3, less the nonce in a4 and e4
    *("h4_w4_k4", "h5_w5_k5", "h6_w6_k6", "w16_k16", "w17_k17"),
)
#: Word index of each constant within a midstate's row. The kernels over SHA instructions load the first sixteen as
#: vectors of four.
MIDSTATE = {name: index for index, name in enumerate(_MIDSTATE_NAMES)}
#: Words per midstate row: two cache lines.
MIDSTATE_WORDS = 32

#: Words per lane in a kernel's scratch array. Vector kernels keep W18..W63 with K added, then W3; those over SHA
#: instructions W3, then W4..W63 with K added.
SCRATCH_WORDS_PER_LANE = 64
#: The vector that holds W3.
W3_VECTOR = 46
#: Most midstates that one job may carry: beyond this the shared schedule is under a hundredth of the work.
MAX_MIDSTATES = 64
