// SHA-256d over a range of nonces, for OpenCL 1.2 devices. README.md beside this file explains the method and counts
// the work; prepare.py makes the job words. miner/gpu/program.py puts definitions of these names before this text:
//
//   WIDTH        nonces per vector: 1, 2, 4, 8 or 16 (uint .. uint16)
//   MIDSTATES    midstates compressed side by side: 1, 2 or 4
//   NONCES       vectors of nonces per work-item, one after the other
//   GROUP        work-group size
//   LOGIC        how words are rotated and combined: 0 C operators, 1 rotate and bitselect, 2 amd_bitalign and
//                bitselect, 3 C rotations and PTX's lop3 and mad
//   ADDS         additions by the multiplier (x * 1 + y): 0 none, 1 all but sums of three known early, 2 all
//   SHIFTS       the schedule's shifts by the multiplier: 0 no, 1 yes
//   ROTATES      of the four Σ in two rounds, how many have their last rotation done by the multiplier: 0 .. 4
//   CAPACITY     candidates that the result buffer holds
//   K0 .. K63, IV0 .. IV7, SIGMA0_640, ...    constants (sha256_constants.py)
//   JOB_WORDS, MIDSTATE_WORDS, LIMIT, S_name, M_name    where job words are (layout.py)

// ---- Vectors --------------------------------------------------------------------------------------------------------

#if WIDTH == 1
typedef uint word;
#define FIRST_LANES 0
#define EACH_LANE(X) X(last, 0)
#elif WIDTH == 2
typedef uint2 word;
#define FIRST_LANES (word)(0, 1)
#define EACH_LANE(X) X(last.s0, 0) X(last.s1, 1)
#elif WIDTH == 4
typedef uint4 word;
#define FIRST_LANES (word)(0, 1, 2, 3)
#define EACH_LANE(X) X(last.s0, 0) X(last.s1, 1) X(last.s2, 2) X(last.s3, 3)
#elif WIDTH == 8
typedef uint8 word;
#define FIRST_LANES (word)(0, 1, 2, 3, 4, 5, 6, 7)
#define EACH_LANE(X) \
    X(last.s0, 0) X(last.s1, 1) X(last.s2, 2) X(last.s3, 3) X(last.s4, 4) X(last.s5, 5) X(last.s6, 6) X(last.s7, 7)
#elif WIDTH == 16
typedef uint16 word;
#define FIRST_LANES (word)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#define EACH_LANE(X) \
    X(last.s0, 0) X(last.s1, 1) X(last.s2, 2) X(last.s3, 3) X(last.s4, 4) X(last.s5, 5) X(last.s6, 6) X(last.s7, 7) \
    X(last.s8, 8) X(last.s9, 9) X(last.sa, 10) X(last.sb, 11) X(last.sc, 12) X(last.sd, 13) X(last.se, 14) \
    X(last.sf, 15)
#endif

// ---- Logic ----------------------------------------------------------------------------------------------------------

#if LOGIC == 2
#pragma OPENCL EXTENSION cl_amd_media_ops : enable
#define ROTR(x, n) amd_bitalign((word)(x), (word)(x), (word)(n))
#elif LOGIC == 1
#define ROTR(x, n) rotate((word)(x), (word)(32 - (n)))
#else
#define ROTR(x, n) ((x) >> (n) | (x) << (32 - (n)))
#endif

#if LOGIC == 3 // truth tables as in generator.py
#define LOP3_FUNCTION(name, table) \
    static word name(word a, word b, word c) { \
        word result; \
        asm("lop3.b32 %0, %1, %2, %3, " table ";" : "=r"(result) : "r"(a), "r"(b), "r"(c)); \
        return result; \
    }
#define MULTIPLY_FUNCTION(name, instruction) \
    static word name(word x, uint factor, word sum) { \
        word result; \
        asm(instruction " %0, %1, %2, %3;" : "=r"(result) : "r"(x), "r"(factor), "r"(sum)); \
        return result; \
    }
LOP3_FUNCTION(lop3_xor, "0x96")
LOP3_FUNCTION(lop3_choose, "0xCA")
LOP3_FUNCTION(lop3_majority, "0xE8")
MULTIPLY_FUNCTION(multiply_add, "mad.lo.u32")
MULTIPLY_FUNCTION(multiply_high_add, "mad.hi.u32")
#define XOR3 lop3_xor
#define CHOOSE lop3_choose
#define MAJORITY lop3_majority
#define MULTIPLY_ADD multiply_add
#define MULTIPLY_HIGH_ADD multiply_high_add
#else
#define MULTIPLY_ADD(x, factor, sum) ((x) * (factor) + (sum))
#define MULTIPLY_HIGH_ADD(x, factor, sum) mad_hi((word)(x), (word)(factor), (word)(sum))
#define XOR3(a, b, c) ((a) ^ (b) ^ (c))
#if LOGIC == 0
#define CHOOSE(e, f, g) ((((f) ^ (g)) & (e)) ^ (g))
#define MAJORITY(a, b, c) (((a) & (b)) | (((a) | (b)) & (c)))
#else
#define CHOOSE(e, f, g) bitselect((word)(g), (word)(f), (word)(e))
#define MAJORITY(a, b, c) bitselect((word)(a), (word)(b), (word)((a) ^ (c)))
#endif
#endif

// ---- Additions, shifts and rotations that may go to the multiplier ---------------------------------------------------
// `one` and the powers of two are kernel arguments, so that the compiler cannot turn them back into what they stand for.

#if ADDS >= 1
#define ADD(x, y) MULTIPLY_ADD(x, one, y)
#else
#define ADD(x, y) ((x) + (y))
#endif
#define ADD3(x, y, z) ADD(ADD(x, y), z)
#if ADDS == 1 // NVIDIA's adder takes three terms at once
#define ADD3_EARLY(x, y, z) ((x) + (y) + (z))
#else
#define ADD3_EARLY ADD3
#endif

#if SHIFTS
#define SHR3(x) mul_hi((word)(x), (word)(power29))
#define SHR10(x) mul_hi((word)(x), (word)(power22))
#else
#define SHR3(x) ((x) >> 3)
#define SHR10(x) ((x) >> 10)
#endif

#define SIGMA0(x) XOR3(ROTR(x, 7), ROTR(x, 18), SHR3(x))
#define SIGMA1(x) XOR3(ROTR(x, 17), ROTR(x, 19), SHR10(x))

// sum + Σ0(a) and sum + Σ1(e). The second form pulls one rotation out of the exclusive or, so that it comes last: rotated
// right by 32 - n, a word is the two halves of its product with 2^n, which the multiplier adds to the sum on the way.
#define ADD_SIGMA(sum, x, i, j, k) ADD(sum, XOR3(ROTR(x, i), ROTR(x, j), ROTR(x, k)))
#define ADD_SIGMA_PRODUCT(sum, x, j, k, power) add_rotated(sum, XOR3(x, ROTR(x, j), ROTR(x, k)), power)
static word add_rotated(word sum, word x, uint power) {
    return MULTIPLY_ADD(x, power, MULTIPLY_HIGH_ADD(x, power, sum));
}
#define ADD_SIGMA0_PLAIN(sum, a) ADD_SIGMA(sum, a, 2, 13, 22)
#define ADD_SIGMA1_PLAIN(sum, e) ADD_SIGMA(sum, e, 6, 11, 25)
#define ADD_SIGMA0_PRODUCT(sum, a) ADD_SIGMA_PRODUCT(sum, a, 11, 20, power30)
#define ADD_SIGMA1_PRODUCT(sum, e) ADD_SIGMA_PRODUCT(sum, e, 5, 19, power26)

// By the round's number modulo 2. Σ0 first: its result is wanted later than that of Σ1.
#if ROTATES >= 1
#define ADD_SIGMA0_0 ADD_SIGMA0_PRODUCT
#else
#define ADD_SIGMA0_0 ADD_SIGMA0_PLAIN
#endif
#if ROTATES >= 2
#define ADD_SIGMA0_1 ADD_SIGMA0_PRODUCT
#else
#define ADD_SIGMA0_1 ADD_SIGMA0_PLAIN
#endif
#if ROTATES >= 3
#define ADD_SIGMA1_0 ADD_SIGMA1_PRODUCT
#else
#define ADD_SIGMA1_0 ADD_SIGMA1_PLAIN
#endif
#if ROTATES >= 4
#define ADD_SIGMA1_1 ADD_SIGMA1_PRODUCT
#else
#define ADD_SIGMA1_1 ADD_SIGMA1_PLAIN
#endif

// ---- Rounds ---------------------------------------------------------------------------------------------------------
// State variables are named by letter and midstate (a0, b0, ... a1, ...). A round renames instead of moving: its `d`
// and `h` take the new e and a. `parity` is the round's number modulo 2.

#define BYTE_SWAP(x) ((x) >> 24 | ((x) >> 8 & 0xff00) | ((x) << 8 & 0xff0000) | (x) << 24)

#if MIDSTATES == 1
#define EACH_MIDSTATE(X, ...) X(0, __VA_ARGS__)
#elif MIDSTATES == 2
#define EACH_MIDSTATE(X, ...) X(0, __VA_ARGS__) X(1, __VA_ARGS__)
#elif MIDSTATES == 4
#define EACH_MIDSTATE(X, ...) X(0, __VA_ARGS__) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__)
#endif

#define ROUND_END(parity, a, b, c, d, h) \
        d = ADD(d, t1); \
        h = ADD_SIGMA0_##parity(ADD(t1, MAJORITY(a, b, c)), a); \
    }
// First hash: h has its W + K already; W + K is added; all midstates.
#define ROUND_SUMMED(m, parity, a, b, c, d, e, f, g, h) { \
        const word t1 = ADD_SIGMA1_##parity(ADD(h##m, CHOOSE(e##m, f##m, g##m)), e##m); \
        ROUND_END(parity, a##m, b##m, c##m, d##m, h##m)
#define ROUND_FIRST(m, parity, a, b, c, d, e, f, g, h, wk) { \
        const word t1 = ADD_SIGMA1_##parity(ADD3(h##m, wk, CHOOSE(e##m, f##m, g##m)), e##m); \
        ROUND_END(parity, a##m, b##m, c##m, d##m, h##m)
#define FIRST(...) EACH_MIDSTATE(ROUND_FIRST, __VA_ARGS__)
#define ROUND_ROW(m, parity, a, b, c, d, e, f, g, h, name) ROUND_FIRST(m, parity, a, b, c, d, e, f, g, h, ROW(m)[name])
#define ROW(m) (job + JOB_WORDS + (row + m) * MIDSTATE_WORDS)
#define START(m, unused) \
    word a##m = ADD(w3, ROW(m)[M_A4]), b##m = ROW(m)[M_A3], c##m = ROW(m)[M_B3], d##m = ROW(m)[M_C3]; \
    word e##m = ADD(w3, ROW(m)[M_E4]), f##m = ROW(m)[M_E3], g##m = ROW(m)[M_F3], h##m = ROW(m)[M_H4_W4_K4];
#define NEXT_SUMMED(m, h, name) h##m = ROW(m)[name];
#define NEXT(w16, w15, w7, w2) ADD(ADD3_EARLY(w16, w7, SIGMA0(w15)), SIGMA1(w2))
// Second hash: W is used once, so it is not worth adding K to it beforehand.
#define SECOND(parity, a, b, c, d, e, f, g, h, w, k) { \
        const word t1 = ADD_SIGMA1_##parity(ADD(ADD3_EARLY(h, w, k), CHOOSE(e, f, g)), e); \
        ROUND_END(parity, a, b, c, d, h)
#define SECOND_PADDING(parity, a, b, c, d, e, f, g, h, k) { \
        const word t1 = ADD_SIGMA1_##parity(ADD3(h, k, CHOOSE(e, f, g)), e); \
        ROUND_END(parity, a, b, c, d, h)
// The same where only e is wanted any more.
#define SECOND_E(parity, d, e, f, g, h, w, k) \
    d = ADD(d, ADD_SIGMA1_##parity(ADD(ADD3_EARLY(h, w, k), CHOOSE(e, f, g)), e));

// ---- First hash -----------------------------------------------------------------------------------------------------
// W18 .. W63 of the header's second block. W4 .. W15 are padding; W16, W17 and what S_... names are job constants.
#define EXPAND \
    const word w18 = ADD(SIGMA0(w3), job[S_W18_WITHOUT_NONCE]); \
    const word w19 = ADD(w3, job[S_W19_WITHOUT_NONCE]); \
    const word w20 = ADD(SIGMA1(w18), 0x80000000u); \
    const word w21 = SIGMA1(w19); \
    const word w22 = ADD(SIGMA1(w20), 640); \
    const word w23 = ADD(SIGMA1(w21), job[S_W16]); \
    const word w24 = ADD(SIGMA1(w22), job[S_W17]); \
    const word w25 = ADD(SIGMA1(w23), w18); \
    const word w26 = ADD(SIGMA1(w24), w19); \
    const word w27 = ADD(SIGMA1(w25), w20); \
    const word w28 = ADD(SIGMA1(w26), w21); \
    const word w29 = ADD(SIGMA1(w27), w22); \
    const word w30 = ADD3(SIGMA1(w28), w23, SIGMA0_640); \
    const word w31 = ADD3(SIGMA1(w29), w24, job[S_W31_JOB_TERMS]); \
    const word w32 = ADD3(SIGMA1(w30), w25, job[S_W32_JOB_TERMS]); \
    const word w33 = NEXT(job[S_W17], w18, w26, w31); \
    const word w34 = NEXT(w18, w19, w27, w32); \
    const word w35 = NEXT(w19, w20, w28, w33); \
    const word w36 = NEXT(w20, w21, w29, w34); \
    const word w37 = NEXT(w21, w22, w30, w35); \
    const word w38 = NEXT(w22, w23, w31, w36); \
    const word w39 = NEXT(w23, w24, w32, w37); \
    const word w40 = NEXT(w24, w25, w33, w38); \
    const word w41 = NEXT(w25, w26, w34, w39); \
    const word w42 = NEXT(w26, w27, w35, w40); \
    const word w43 = NEXT(w27, w28, w36, w41); \
    const word w44 = NEXT(w28, w29, w37, w42); \
    const word w45 = NEXT(w29, w30, w38, w43); \
    const word w46 = NEXT(w30, w31, w39, w44); \
    const word w47 = NEXT(w31, w32, w40, w45); \
    const word w48 = NEXT(w32, w33, w41, w46); \
    const word w49 = NEXT(w33, w34, w42, w47); \
    const word w50 = NEXT(w34, w35, w43, w48); \
    const word w51 = NEXT(w35, w36, w44, w49); \
    const word w52 = NEXT(w36, w37, w45, w50); \
    const word w53 = NEXT(w37, w38, w46, w51); \
    const word w54 = NEXT(w38, w39, w47, w52); \
    const word w55 = NEXT(w39, w40, w48, w53); \
    const word w56 = NEXT(w40, w41, w49, w54); \
    const word w57 = NEXT(w41, w42, w50, w55); \
    const word w58 = NEXT(w42, w43, w51, w56); \
    const word w59 = NEXT(w43, w44, w52, w57); \
    const word w60 = NEXT(w44, w45, w53, w58); \
    const word w61 = NEXT(w45, w46, w54, w59); \
    const word w62 = NEXT(w46, w47, w55, w60); \
    const word w63 = NEXT(w47, w48, w56, w61); \
    const word wk18 = ADD(w18, K18); \
    const word wk19 = ADD(w19, K19); \
    const word wk20 = ADD(w20, K20); \
    const word wk21 = ADD(w21, K21); \
    const word wk22 = ADD(w22, K22); \
    const word wk23 = ADD(w23, K23); \
    const word wk24 = ADD(w24, K24); \
    const word wk25 = ADD(w25, K25); \
    const word wk26 = ADD(w26, K26); \
    const word wk27 = ADD(w27, K27); \
    const word wk28 = ADD(w28, K28); \
    const word wk29 = ADD(w29, K29); \
    const word wk30 = ADD(w30, K30); \
    const word wk31 = ADD(w31, K31); \
    const word wk32 = ADD(w32, K32); \
    const word wk33 = ADD(w33, K33); \
    const word wk34 = ADD(w34, K34); \
    const word wk35 = ADD(w35, K35); \
    const word wk36 = ADD(w36, K36); \
    const word wk37 = ADD(w37, K37); \
    const word wk38 = ADD(w38, K38); \
    const word wk39 = ADD(w39, K39); \
    const word wk40 = ADD(w40, K40); \
    const word wk41 = ADD(w41, K41); \
    const word wk42 = ADD(w42, K42); \
    const word wk43 = ADD(w43, K43); \
    const word wk44 = ADD(w44, K44); \
    const word wk45 = ADD(w45, K45); \
    const word wk46 = ADD(w46, K46); \
    const word wk47 = ADD(w47, K47); \
    const word wk48 = ADD(w48, K48); \
    const word wk49 = ADD(w49, K49); \
    const word wk50 = ADD(w50, K50); \
    const word wk51 = ADD(w51, K51); \
    const word wk52 = ADD(w52, K52); \
    const word wk53 = ADD(w53, K53); \
    const word wk54 = ADD(w54, K54); \
    const word wk55 = ADD(w55, K55); \
    const word wk56 = ADD(w56, K56); \
    const word wk57 = ADD(w57, K57); \
    const word wk58 = ADD(w58, K58); \
    const word wk59 = ADD(w59, K59); \
    const word wk60 = ADD(w60, K60); \
    const word wk61 = ADD(w61, K61); \
    const word wk62 = ADD(w62, K62); \
    const word wk63 = ADD(w63, K63);

// Rounds 3 .. 63 of one group of midstates. Round 3 is linear in the nonce, its result starts here.
#define COMPRESS_FIRST \
    EACH_MIDSTATE(ROUND_SUMMED, 0, a, b, c, d, e, f, g, h) \
    EACH_MIDSTATE(NEXT_SUMMED, g, M_H5_W5_K5) \
    EACH_MIDSTATE(ROUND_SUMMED, 1, h, a, b, c, d, e, f, g) \
    EACH_MIDSTATE(NEXT_SUMMED, f, M_H6_W6_K6) \
    EACH_MIDSTATE(ROUND_SUMMED, 0, g, h, a, b, c, d, e, f) \
    FIRST(1, f, g, h, a, b, c, d, e, K7) \
    FIRST(0, e, f, g, h, a, b, c, d, K8) \
    FIRST(1, d, e, f, g, h, a, b, c, K9) \
    FIRST(0, c, d, e, f, g, h, a, b, K10) \
    FIRST(1, b, c, d, e, f, g, h, a, K11) \
    FIRST(0, a, b, c, d, e, f, g, h, K12) \
    FIRST(1, h, a, b, c, d, e, f, g, K13) \
    FIRST(0, g, h, a, b, c, d, e, f, K14) \
    FIRST(1, f, g, h, a, b, c, d, e, (K15 + 640)) \
    EACH_MIDSTATE(ROUND_ROW, 0, e, f, g, h, a, b, c, d, M_W16_K16) \
    EACH_MIDSTATE(ROUND_ROW, 1, d, e, f, g, h, a, b, c, M_W17_K17) \
    FIRST(0, c, d, e, f, g, h, a, b, wk18) \
    FIRST(1, b, c, d, e, f, g, h, a, wk19) \
    FIRST(0, a, b, c, d, e, f, g, h, wk20) \
    FIRST(1, h, a, b, c, d, e, f, g, wk21) \
    FIRST(0, g, h, a, b, c, d, e, f, wk22) \
    FIRST(1, f, g, h, a, b, c, d, e, wk23) \
    FIRST(0, e, f, g, h, a, b, c, d, wk24) \
    FIRST(1, d, e, f, g, h, a, b, c, wk25) \
    FIRST(0, c, d, e, f, g, h, a, b, wk26) \
    FIRST(1, b, c, d, e, f, g, h, a, wk27) \
    FIRST(0, a, b, c, d, e, f, g, h, wk28) \
    FIRST(1, h, a, b, c, d, e, f, g, wk29) \
    FIRST(0, g, h, a, b, c, d, e, f, wk30) \
    FIRST(1, f, g, h, a, b, c, d, e, wk31) \
    FIRST(0, e, f, g, h, a, b, c, d, wk32) \
    FIRST(1, d, e, f, g, h, a, b, c, wk33) \
    FIRST(0, c, d, e, f, g, h, a, b, wk34) \
    FIRST(1, b, c, d, e, f, g, h, a, wk35) \
    FIRST(0, a, b, c, d, e, f, g, h, wk36) \
    FIRST(1, h, a, b, c, d, e, f, g, wk37) \
    FIRST(0, g, h, a, b, c, d, e, f, wk38) \
    FIRST(1, f, g, h, a, b, c, d, e, wk39) \
    FIRST(0, e, f, g, h, a, b, c, d, wk40) \
    FIRST(1, d, e, f, g, h, a, b, c, wk41) \
    FIRST(0, c, d, e, f, g, h, a, b, wk42) \
    FIRST(1, b, c, d, e, f, g, h, a, wk43) \
    FIRST(0, a, b, c, d, e, f, g, h, wk44) \
    FIRST(1, h, a, b, c, d, e, f, g, wk45) \
    FIRST(0, g, h, a, b, c, d, e, f, wk46) \
    FIRST(1, f, g, h, a, b, c, d, e, wk47) \
    FIRST(0, e, f, g, h, a, b, c, d, wk48) \
    FIRST(1, d, e, f, g, h, a, b, c, wk49) \
    FIRST(0, c, d, e, f, g, h, a, b, wk50) \
    FIRST(1, b, c, d, e, f, g, h, a, wk51) \
    FIRST(0, a, b, c, d, e, f, g, h, wk52) \
    FIRST(1, h, a, b, c, d, e, f, g, wk53) \
    FIRST(0, g, h, a, b, c, d, e, f, wk54) \
    FIRST(1, f, g, h, a, b, c, d, e, wk55) \
    FIRST(0, e, f, g, h, a, b, c, d, wk56) \
    FIRST(1, d, e, f, g, h, a, b, c, wk57) \
    FIRST(0, c, d, e, f, g, h, a, b, wk58) \
    FIRST(1, b, c, d, e, f, g, h, a, wk59) \
    FIRST(0, a, b, c, d, e, f, g, h, wk60) \
    FIRST(1, h, a, b, c, d, e, f, g, wk61) \
    FIRST(0, g, h, a, b, c, d, e, f, wk62) \
    FIRST(1, f, g, h, a, b, c, d, e, wk63)

// ---- Second hash ----------------------------------------------------------------------------------------------------
// x0 .. x7 are the first digest, x8 .. x15 padding; the rounds as far as the hash's last word needs them.
#define COMPRESS_SECOND \
    word d = ADD(x0, SECOND_E0), h = ADD(x0, SECOND_A0); \
    word a = IV0, b = IV1, c = IV2, e = IV4, f = IV5, g = IV6; \
    SECOND(1, h, a, b, c, d, e, f, g, x1, K1) \
    SECOND(0, g, h, a, b, c, d, e, f, x2, K2) \
    SECOND(1, f, g, h, a, b, c, d, e, x3, K3) \
    SECOND(0, e, f, g, h, a, b, c, d, x4, K4) \
    SECOND(1, d, e, f, g, h, a, b, c, x5, K5) \
    SECOND(0, c, d, e, f, g, h, a, b, x6, K6) \
    SECOND(1, b, c, d, e, f, g, h, a, x7, K7) \
    SECOND_PADDING(0, a, b, c, d, e, f, g, h, (K8 + 0x80000000u)) \
    SECOND_PADDING(1, h, a, b, c, d, e, f, g, K9) \
    SECOND_PADDING(0, g, h, a, b, c, d, e, f, K10) \
    SECOND_PADDING(1, f, g, h, a, b, c, d, e, K11) \
    SECOND_PADDING(0, e, f, g, h, a, b, c, d, K12) \
    SECOND_PADDING(1, d, e, f, g, h, a, b, c, K13) \
    SECOND_PADDING(0, c, d, e, f, g, h, a, b, K14) \
    SECOND_PADDING(1, b, c, d, e, f, g, h, a, (K15 + 256)) \
    const word x16 = ADD(x0, SIGMA0(x1)); \
    SECOND(0, a, b, c, d, e, f, g, h, x16, K16) \
    const word x17 = ADD3(x1, SIGMA0(x2), SIGMA1_256); \
    SECOND(1, h, a, b, c, d, e, f, g, x17, K17) \
    const word x18 = ADD3(x2, SIGMA0(x3), SIGMA1(x16)); \
    SECOND(0, g, h, a, b, c, d, e, f, x18, K18) \
    const word x19 = ADD3(x3, SIGMA0(x4), SIGMA1(x17)); \
    SECOND(1, f, g, h, a, b, c, d, e, x19, K19) \
    const word x20 = ADD3(x4, SIGMA0(x5), SIGMA1(x18)); \
    SECOND(0, e, f, g, h, a, b, c, d, x20, K20) \
    const word x21 = ADD3(x5, SIGMA0(x6), SIGMA1(x19)); \
    SECOND(1, d, e, f, g, h, a, b, c, x21, K21) \
    const word x22 = ADD3(ADD(x6, 256), SIGMA0(x7), SIGMA1(x20)); \
    SECOND(0, c, d, e, f, g, h, a, b, x22, K22) \
    const word x23 = ADD3(ADD(x7, SIGMA0_PADDING), x16, SIGMA1(x21)); \
    SECOND(1, b, c, d, e, f, g, h, a, x23, K23) \
    const word x24 = ADD3(x17, SIGMA1(x22), 0x80000000u); \
    SECOND(0, a, b, c, d, e, f, g, h, x24, K24) \
    const word x25 = ADD(x18, SIGMA1(x23)); \
    SECOND(1, h, a, b, c, d, e, f, g, x25, K25) \
    const word x26 = ADD(x19, SIGMA1(x24)); \
    SECOND(0, g, h, a, b, c, d, e, f, x26, K26) \
    const word x27 = ADD(x20, SIGMA1(x25)); \
    SECOND(1, f, g, h, a, b, c, d, e, x27, K27) \
    const word x28 = ADD(x21, SIGMA1(x26)); \
    SECOND(0, e, f, g, h, a, b, c, d, x28, K28) \
    const word x29 = ADD(x22, SIGMA1(x27)); \
    SECOND(1, d, e, f, g, h, a, b, c, x29, K29) \
    const word x30 = ADD3(x23, SIGMA1(x28), SIGMA0_256); \
    SECOND(0, c, d, e, f, g, h, a, b, x30, K30) \
    const word x31 = ADD3(ADD(x24, 256), SIGMA0(x16), SIGMA1(x29)); \
    SECOND(1, b, c, d, e, f, g, h, a, x31, K31) \
    const word x32 = NEXT(x16, x17, x25, x30); \
    SECOND(0, a, b, c, d, e, f, g, h, x32, K32) \
    const word x33 = NEXT(x17, x18, x26, x31); \
    SECOND(1, h, a, b, c, d, e, f, g, x33, K33) \
    const word x34 = NEXT(x18, x19, x27, x32); \
    SECOND(0, g, h, a, b, c, d, e, f, x34, K34) \
    const word x35 = NEXT(x19, x20, x28, x33); \
    SECOND(1, f, g, h, a, b, c, d, e, x35, K35) \
    const word x36 = NEXT(x20, x21, x29, x34); \
    SECOND(0, e, f, g, h, a, b, c, d, x36, K36) \
    const word x37 = NEXT(x21, x22, x30, x35); \
    SECOND(1, d, e, f, g, h, a, b, c, x37, K37) \
    const word x38 = NEXT(x22, x23, x31, x36); \
    SECOND(0, c, d, e, f, g, h, a, b, x38, K38) \
    const word x39 = NEXT(x23, x24, x32, x37); \
    SECOND(1, b, c, d, e, f, g, h, a, x39, K39) \
    const word x40 = NEXT(x24, x25, x33, x38); \
    SECOND(0, a, b, c, d, e, f, g, h, x40, K40) \
    const word x41 = NEXT(x25, x26, x34, x39); \
    SECOND(1, h, a, b, c, d, e, f, g, x41, K41) \
    const word x42 = NEXT(x26, x27, x35, x40); \
    SECOND(0, g, h, a, b, c, d, e, f, x42, K42) \
    const word x43 = NEXT(x27, x28, x36, x41); \
    SECOND(1, f, g, h, a, b, c, d, e, x43, K43) \
    const word x44 = NEXT(x28, x29, x37, x42); \
    SECOND(0, e, f, g, h, a, b, c, d, x44, K44) \
    const word x45 = NEXT(x29, x30, x38, x43); \
    SECOND(1, d, e, f, g, h, a, b, c, x45, K45) \
    const word x46 = NEXT(x30, x31, x39, x44); \
    SECOND(0, c, d, e, f, g, h, a, b, x46, K46) \
    const word x47 = NEXT(x31, x32, x40, x45); \
    SECOND(1, b, c, d, e, f, g, h, a, x47, K47) \
    const word x48 = NEXT(x32, x33, x41, x46); \
    SECOND(0, a, b, c, d, e, f, g, h, x48, K48) \
    const word x49 = NEXT(x33, x34, x42, x47); \
    SECOND(1, h, a, b, c, d, e, f, g, x49, K49) \
    const word x50 = NEXT(x34, x35, x43, x48); \
    SECOND(0, g, h, a, b, c, d, e, f, x50, K50) \
    const word x51 = NEXT(x35, x36, x44, x49); \
    SECOND(1, f, g, h, a, b, c, d, e, x51, K51) \
    const word x52 = NEXT(x36, x37, x45, x50); \
    SECOND(0, e, f, g, h, a, b, c, d, x52, K52) \
    const word x53 = NEXT(x37, x38, x46, x51); \
    SECOND(1, d, e, f, g, h, a, b, c, x53, K53) \
    const word x54 = NEXT(x38, x39, x47, x52); \
    SECOND(0, c, d, e, f, g, h, a, b, x54, K54) \
    const word x55 = NEXT(x39, x40, x48, x53); \
    SECOND(1, b, c, d, e, f, g, h, a, x55, K55) \
    const word x56 = NEXT(x40, x41, x49, x54); \
    SECOND(0, a, b, c, d, e, f, g, h, x56, K56) \
    const word x57 = NEXT(x41, x42, x50, x55); \
    SECOND_E(1, c, d, e, f, g, x57, K57) \
    const word x58 = NEXT(x42, x43, x51, x56); \
    SECOND_E(0, b, c, d, e, f, x58, K58) \
    const word x59 = NEXT(x43, x44, x52, x57); \
    SECOND_E(1, a, b, c, d, e, x59, K59) \
    const word x60 = NEXT(x44, x45, x53, x58); \
    const word last = ADD_SIGMA1_0(ADD3(ADD3_EARLY(d, x60, h), CHOOSE(a, b, c), K60 + IV7), a);

// ---- The kernel -----------------------------------------------------------------------------------------------------

#define REPORT(last, lane) \
    if (BYTE_SWAP(last) <= limit && offset + lane < count) { \
        const uint place = atomic_inc(results); \
        if (place < CAPACITY) { \
            results[1 + 2 * place] = version; \
            results[2 + 2 * place] = start + offset + lane; \
        } \
    }

// The second hash of midstate m: its variables are the first's, by order of the digest's words.
#define FINISH(m, unused) { \
        const word x0 = ADD(e##m, ROW(m)[M_FEED0]), x1 = ADD(f##m, ROW(m)[M_FEED1]); \
        const word x2 = ADD(g##m, ROW(m)[M_FEED2]), x3 = ADD(h##m, ROW(m)[M_FEED3]); \
        const word x4 = ADD(a##m, ROW(m)[M_FEED4]), x5 = ADD(b##m, ROW(m)[M_FEED5]); \
        const word x6 = ADD(c##m, ROW(m)[M_FEED6]), x7 = ADD(d##m, ROW(m)[M_FEED7]); \
        COMPRESS_SECOND \
        const uint version = row + m; \
        if (version < versions) { EACH_LANE(REPORT) } \
    }

// Searches nonces start .. start + count - 1 (modulo 2^32) under midstate rows 0 .. versions - 1 of `job`.
// results[0]: how many candidates there are, more than CAPACITY if some found no room; then pairs of midstate row and
// nonce, in no order. The host sets results[0] to 0, and rounds the work-items up to whole groups: together they cover
// at least `count`. Rows up to the next multiple of MIDSTATES must exist.
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void search(__constant const uint *job, const uint versions, const uint start, const uint count,
            __global uint *results, const uint one, const uint power22, const uint power26, const uint power29,
            const uint power30) {
    const uint limit = job[LIMIT];
    for (uint turn = 0; turn < NONCES; turn++) {
        const uint offset = (turn * (uint)get_global_size(0) + (uint)get_global_id(0)) * WIDTH;
        const word nonces = start + offset + FIRST_LANES;
        const word w3 = BYTE_SWAP(nonces);
        EXPAND
        for (uint row = 0; row < versions; row += MIDSTATES) {
            EACH_MIDSTATE(START, 0)
            COMPRESS_FIRST
            EACH_MIDSTATE(FINISH, 0)
        }
    }
}
