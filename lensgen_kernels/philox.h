// Random numbers, those of lensgen.rng: Philox4x32-10 (Salmon et al. 2011, SC'11), keyed by seed and split, with the
// counter (block of four words, hash of a name, lower and upper half of an image's index).

struct lg_word4 { unsigned int w0, w1, w2, w3; };

LG_FUNCTION unsigned int lg_high(unsigned int a, unsigned int b) {
#ifdef __CUDACC__
    return __umulhi(a, b);
#else
    return (unsigned int)(((unsigned long long)a * b) >> 32);
#endif
}

LG_FUNCTION lg_word4 lg_words(unsigned int block, unsigned int name, unsigned long long index, unsigned int k0, unsigned int k1) {
    unsigned int c0 = block, c1 = name, c2 = (unsigned int)index, c3 = (unsigned int)(index >> 32);
    LG_UNROLL for (int round = 0; round < 10; round++) {
        const unsigned int high0 = lg_high(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned int high1 = lg_high(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0, c1 = low1, c2 = high0 ^ c3 ^ k1, c3 = low0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
}

// Uniforms (n + 1/2) / 2**23 of a word's upper 23 bits: never 0 or 1, and exact in float too.

LG_FUNCTION float lg_uniform_float(unsigned int word) {
    // the bits of 1 + n / 2**23; the subtraction of 1 - 2**-24 is exact, and puts in the half
    return lg_from_bits((int)((word >> 9) | 0x3F800000u)) - 0.99999994f;
}
LG_FUNCTION double lg_uniform_double(unsigned int word) { return ((double)(word >> 9) + 0.5) * 1.1920928955078125e-07; }

// Of four neighbouring pixels.
LG_FUNCTION void lg_four_uniforms(float* u, int block, unsigned int name, long long index, unsigned int k0, unsigned int k1) {
    const lg_word4 words = lg_words(block, name, index, k0, k1);
    u[0] = lg_uniform_float(words.w0), u[1] = lg_uniform_float(words.w1);
    u[2] = lg_uniform_float(words.w2), u[3] = lg_uniform_float(words.w3);
}
