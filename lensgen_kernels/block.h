// What a block of threads is: on a GPU, and in an emulation of it by one thread of a CPU.
//
// Kernels are written in phases. In a phase each thread takes its share of a count (LG_EACH); what one phase leaves in
// memory for others is read after a barrier. The emulation runs a phase as a loop over all threads' shares, forwards or
// backwards: a result that depends on the order is a race. With LG_CHECKED it also looks at every access to memory that
// threads share: races within a phase, numbers that nobody wrote, places outside.
//
// The text is put before a kernel's, with LG_THREADS defined: threads of a block, a multiple of 32.

#ifdef __CUDACC__

#define LG_KERNEL(blocks_at_once) extern "C" __global__ void __launch_bounds__(LG_THREADS, blocks_at_once)
#define LG_EACH(t, count) for (int t = lg_thread_number(); t < (count) && lg_afresh(); t += LG_THREADS)
#define LG_BARRIER() __syncthreads()
#define LG_BLOCK ((int)blockIdx.x)
#define LG_BLOCKS ((int)gridDim.x)
#define LG_SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]
#define LG_MEMBER __device__ __forceinline__
#define LG_CONSTANT __constant__ const
#define LG_ARGUMENT const __grid_constant__
#define LG_UNROLL _Pragma("unroll")
#define LG_ROLLED _Pragma("unroll 1")

// Without these the compiler works out once, before all phases, what each makes of the thread's number and of what it
// reads in shared memory; then there are no registers left for the phases themselves.
LG_FUNCTION int lg_thread_number() {
    int t;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
    return t;
}
LG_FUNCTION int lg_opaque(int image) {
    asm volatile("" : "+r"(image));
    return image;
}
LG_FUNCTION bool lg_afresh() {
    asm volatile("" ::: "memory");
    return true;
}

template <class T> using lg_memory = T*;  // of T, shared by the threads of a block
template <class T> LG_FUNCTION lg_memory<T> lg_place(unsigned char* shared, int bytes) { return (T*)(shared + bytes); }

struct lg_four { float a, b, c, d; };
LG_FUNCTION lg_four lg_load4(lg_memory<float> from, int at) {  // `at` is a multiple of 4
    const float4 v = *(const float4*)(from + at);
    return {v.x, v.y, v.z, v.w};
}
LG_FUNCTION void lg_store4(lg_memory<float> to, int at, lg_four v) { *(float4*)(to + at) = {v.a, v.b, v.c, v.d}; }
LG_FUNCTION void lg_store4_global(float* to, long long at, lg_four v) { *(float4*)(to + at) = {v.a, v.b, v.c, v.d}; }
LG_FUNCTION void lg_raise(lg_memory<float> to, int at, float value) { atomicMax((int*)(to + at), lg_bits(value)); }  // of numbers above 0

#else

#include <algorithm>
#include <stdio.h>
#include <vector>

using std::max;
using std::min;

#define LG_KERNEL(blocks_at_once) extern "C" void
#define LG_EACH(t, count) for (int t##_turn = 0, t = 0; t##_turn < (count) && (t = lg_turn(t##_turn, (count)), 1); t##_turn++)
#define LG_BARRIER() (lg_epoch++, lg_step++)
#define lg_afresh() true
#define lg_opaque(image) image
#define LG_BLOCK lg_block
#define LG_BLOCKS lg_blocks
#define LG_SHARED_MEMORY(name) unsigned char* const name = lg_shared.data()
#define LG_MEMBER inline
#define LG_CONSTANT static const
#define LG_ARGUMENT const
#define LG_UNROLL
#define LG_ROLLED

static int lg_block, lg_blocks, lg_backwards, lg_thread;
static long long lg_epoch = 1, lg_step = 1;  // barriers of the block, and of warps too
static std::vector<unsigned char> lg_shared;
static char lg_fault[200];

static inline int lg_turn(int k, int count) {
    const int t = lg_backwards ? count - 1 - k : k;
    lg_thread = t % LG_THREADS;
    return t;
}

// what is known of 4 bytes: who wrote and read them last, and when
struct lg_trace { int writer = -1, reader = -1; long long write_epoch = 0, write_step = 0, read_epoch = 0, read_step = 0; bool readers = false; };
static std::vector<lg_trace> lg_traces, lg_work_traces;
static const float* lg_work;

static inline void lg_blame(const char* what, long at) {
    if (!lg_fault[0]) snprintf(lg_fault, sizeof lg_fault, "%s at word %ld, block %d, thread %d", what, at, lg_block, lg_thread);
}
static inline bool lg_unordered(int thread, long long epoch, long long step) {  // two threads with no barrier between
    return thread != lg_thread && epoch == lg_epoch && (thread / 32 != lg_thread / 32 || step == lg_step);
}
static inline void lg_look(const void* place, bool write, int words) {
    const unsigned char* const p = (const unsigned char*)place;
    const bool shared = p >= lg_shared.data() && p < lg_shared.data() + lg_shared.size();
    std::vector<lg_trace>& traces = shared ? lg_traces : lg_work_traces;
    const long first = (p - (shared ? lg_shared.data() : (const unsigned char*)lg_work)) / 4;
    for (long at = first; at < first + words; at++) {
        if (at < 0 || at >= (long)traces.size()) return lg_blame(shared ? "outside shared memory" : "outside the workspace", at);
        lg_trace& t = traces[at];
        if (t.writer >= 0 && lg_unordered(t.writer, t.write_epoch, t.write_step)) lg_blame(write ? "two threads write" : "read before a barrier", at);
        if (write) {
            if (t.reader >= 0 && (lg_unordered(t.reader, t.read_epoch, t.read_step) || (t.readers && t.read_epoch == lg_epoch && t.read_step == lg_step)))
                lg_blame("written while others read", at);
            t.writer = lg_thread, t.write_epoch = lg_epoch, t.write_step = lg_step;
        } else {
            if (t.writer < 0) lg_blame("read and never written", at);
            t.readers = t.reader >= 0 && t.read_step == lg_step && (t.readers || t.reader != lg_thread);
            t.reader = lg_thread, t.read_epoch = lg_epoch, t.read_step = lg_step;
        }
    }
}

// before each block; memory is poisoned
extern "C" void lg_begin(int block, int blocks, int backwards, int shared_bytes, float* workspace, int workspace_floats) {
    lg_block = block, lg_blocks = blocks, lg_backwards = backwards, lg_epoch++, lg_step++, lg_fault[0] = 0;
    lg_shared.assign(shared_bytes, 0xFF);
    lg_traces.assign(shared_bytes / 4, {});
    lg_work_traces.assign(workspace_floats, {});
    lg_work = workspace;
}
extern "C" const char* lg_found() { return lg_fault; }

#ifdef LG_CHECKED
template <class T> struct lg_place_of {
    T* p;
    operator T() const { lg_look(p, false, sizeof(T) / 4); return *p; }
    T operator=(T v) const { lg_look(p, true, sizeof(T) / 4); return *p = v; }
    T operator=(const lg_place_of& v) const { return *this = (T)v; }
    T operator+=(T v) const { return *this = (T)*this + v; }
};
template <class T> struct lg_checked {
    T* p;
    lg_place_of<T> operator[](int k) const { return {p + k}; }
    lg_checked operator+(int k) const { return {p + k}; }
};
template <class T> using lg_memory = lg_checked<T>;
static inline float* lg_bare(lg_checked<float> m) { return m.p; }
#else
static inline float* lg_bare(float* m) { return m; }
template <class T> using lg_memory = T*;
#endif
template <class T> static inline lg_memory<T> lg_place(unsigned char* shared, int bytes) { return {(T*)(shared + bytes)}; }

struct lg_four { float a, b, c, d; };
static inline lg_four lg_load4(lg_memory<float> from, int at) { return {from[at], from[at + 1], from[at + 2], from[at + 3]}; }
static inline void lg_store4(lg_memory<float> to, int at, lg_four v) { to[at] = v.a, to[at + 1] = v.b, to[at + 2] = v.c, to[at + 3] = v.d; }
static inline void lg_store4_global(float* to, long long at, lg_four v) { to[at] = v.a, to[at + 1] = v.b, to[at + 2] = v.c, to[at + 3] = v.d; }
template <class M> static inline void lg_raise(M to, int at, float value) {
    float* const place = lg_bare(to) + at;
    if (value > *place) to[at] = value;  // the first to raise it is the one whom others must wait for
}

#endif
