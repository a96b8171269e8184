// A group of lanes of one warp that works on one system: LG_LANES of them, a power of two up to 32.
//
// What a system has once is worked out by all lanes alike. LG_SPREAD gives each lane its share of a range; LG_ONE is
// for what one lane writes for all. What lanes leave in shared memory for others is read after LG_GROUP_BARRIER, and
// groups know nothing of one another. The emulation plays one group after the other.

#define LG_GROUPS (LG_THREADS / LG_LANES)  // groups of a block

#ifdef __CUDACC__

#define LG_CALL static __device__ __noinline__
#define LG_TABLE static __device__ const double
#define LG_EACH_GROUP(g) const int g = threadIdx.x / LG_LANES, lg_lane = threadIdx.x % LG_LANES; const unsigned int lg_members = (0xFFFFFFFFu >> (32 - LG_LANES)) << (threadIdx.x % 32 / LG_LANES * LG_LANES);
#define LG_SPREAD(t, first, last) for (int t = (first) + lg_lane; t < (last); t += LG_LANES)
#define LG_ONE if (lg_lane == 0)
#define LG_GROUP_BARRIER() __syncwarp(lg_members)
// a double that the compiler knows nothing of: what follows from it stays where it is written, in a loop
#define LG_OPAQUE(x) asm volatile("" : "+d"(x))

#else

#define LG_CALL static __attribute__((noinline))
#define LG_TABLE static const double
#define LG_EACH_GROUP(g) for (int g = 0; g < LG_GROUPS; g++)
#define LG_SPREAD(t, first, last) for (int t##_turn = (first), t = 0; lg_share(t##_turn, (first), (last), &t); t##_turn++)
#define LG_ONE for (int lg_lane = lg_thread = 0; lg_lane == 0; lg_lane++, lg_thread = LG_ALL_LANES)
#define LG_GROUP_BARRIER() (lg_step++)
#define LG_OPAQUE(x)

enum { LG_ALL_LANES = LG_LANES < 32 ? LG_LANES : 31 };  // whom the checks of memory take for what all lanes do

static inline bool lg_share(int turn, int first, int last, int* t) {
    if (turn < last) lg_thread = (*t = lg_backwards ? last - 1 - (turn - first) : turn) % LG_LANES;
    else lg_thread = LG_ALL_LANES;
    return turn < last;
}

#endif

// how many of the first `count` numbers of a rising table are less than x
LG_FUNCTION long long lg_bisect_left(const double* table, double x, int count) {
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) >> 1;
        if (table[middle] < x) low = middle + 1;
        else high = middle;
    }
    return low;
}

// uniform number `position` of an image
LG_CALL double lg_uniform(unsigned int position, unsigned int name, unsigned long long index, unsigned int k0, unsigned int k1) {
    const lg_word4 w = lg_words(position >> 2, name, index, k0, k1);
    const unsigned int which = position & 3u;
    return lg_uniform_double(which == 0 ? w.w0 : which == 1 ? w.w1 : which == 2 ? w.w2 : w.w3);
}
