// A search loop around one kernel's object code (miner/kernels/standalone.py), like miner/kernels/search.py's, as a
// Linux program without a C library: requests on standard input, answers on standard output.
//
//   request:  u64 count, u32 start, u32 versions, u32 room, u32 words; then the job's words
//   answer:   i64 nonces done, i64 candidates; then each candidate, u64 version index << 32 | nonce
#include <stdint.h>

#define JOB_WORDS_MAX 4096
#define FOUND_MAX 65536

void expand(uint32_t nonce, const uint32_t *job, uint32_t *schedule);
uint32_t compress(const uint32_t *job, const uint32_t *midstate, const uint32_t *schedule);

static _Alignas(64) uint32_t job[JOB_WORDS_MAX];
static _Alignas(64) uint32_t schedule[SCRATCH_WORDS_PER_LANE * WIDTH];
static uint64_t found[FOUND_MAX];

static long call(long number, long a, long b, long c) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}

static void leave(int status) {
    for (;;) call(93, status, 0, 0);
}

static void transfer(int number, int file, void *data, long size) {
    for (long at = 0; at < size;) {
        long moved = call(number, file, (long)data + at, size - at);
        if (moved <= 0) leave(at == 0 && moved == 0 ? 0 : 2);
        at += moved;
    }
}

void _start(void) {
    struct { uint64_t count; uint32_t start, versions, room, words; } request;
    for (;;) {
        transfer(63, 0, &request, sizeof request);
        if (request.words > JOB_WORDS_MAX || request.room > FOUND_MAX) leave(3);
        transfer(63, 0, job, 4L * request.words);
        const uint64_t room = request.room - (uint64_t)request.versions * WIDTH;
        int64_t result[2] = {0, 0};
        uint32_t nonce = request.start;
        while ((uint64_t)result[0] < request.count && (uint64_t)result[1] <= room) {
            expand(nonce, job, schedule);
            for (uint32_t version = 0; version < request.versions; version++) {
                uint32_t mask = compress(job, job + JOB_WORDS + MIDSTATE_WORDS * version, schedule);
                for (uint32_t lane = 0; lane < WIDTH && result[0] + lane < request.count; lane++)
                    if (mask >> lane & 1) found[result[1]++] = (uint64_t)version << 32 | (nonce + lane);
            }
            nonce += WIDTH;
            result[0] += WIDTH;
        }
        if ((uint64_t)result[0] > request.count) result[0] = request.count;
        transfer(64, 1, result, sizeof result);
        transfer(64, 1, found, 8 * result[1]);
    }
}
