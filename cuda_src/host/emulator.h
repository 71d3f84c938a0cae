// Runs a .cu file on a CPU as a GPU would: thread by thread, with barriers, shared memory and shuffles. Slow; for
// tests, and for stepping through a kernel.
//
// Blocks run one after another. What CUDA leaves undefined is an error here where it can be seen: a barrier that
// others have left, memory nobody owns, an address that is not aligned. Memory starts as NaN, not as zeros.
#pragma once
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <type_traits>
#include <unistd.h>
#include "host/half.h"
#include "host/signature.h"
#include "host/threads.h"

#define EMULATOR
#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

namespace emulator {

// As ctypes sees them, see kernels/emulator.py.
constexpr int MOST_VALUES = 10;
struct Setup { int order; unsigned seed, shared_bytes; int watched_count; const dim3 (*watched)[2]; };
struct Value { double number; const void* address; long long bytes; };  // bytes of what lies there, 0 for a number
struct Seen { const char* name; dim3 block, thread; int count; Value values[MOST_VALUES]; };
struct Report { char message[400]; const void* touched; const Seen* seen; int seen_count; };

static Seen* seen;
static int seen_count, seen_room;

// Memory that ends, up to 16 bytes, at a page nobody may touch.
struct Fenced {
    const char* name;
    char *data, *mapped;
    size_t bytes, length;
    void poison() { if (data) memset(data, 0xFF, bytes); }  // NaN for floats, -1 for whole numbers
};
static Fenced shared[64], dynamic;
static int shared_count;

static Fenced fenced(const char* name, size_t bytes) {
    const size_t page = sysconf(_SC_PAGESIZE), taken = (bytes + 15) / 16 * 16, pages = (taken + page - 1) / page;
    const size_t length = (pages + 2) * page;
    void* mapped = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* begin = static_cast<char*>(mapped) + page;
    if (mapped == MAP_FAILED || mprotect(begin, pages * page, PROT_READ | PROT_WRITE)) abort();
    return {name, begin + pages * page - taken, static_cast<char*>(mapped), bytes, length};
}
// What `__shared__ T name;` is rewritten to: one place for all threads, poisoned at the start of every block.
template <typename T, int NUMBER> T& shared_memory(const char* name) {
    static T* place = nullptr;
    if (!place) {
        if (shared_count == sizeof(shared) / sizeof(*shared)) fail("too much", *now, "declares shared memory");
        Fenced& made = shared[shared_count++] = fenced(name, sizeof(T));
        made.poison();
        place = reinterpret_cast<T*>(made.data);
    }
    return *place;
}
template <typename T> T* dynamic_shared_memory() { return reinterpret_cast<T*>(dynamic.data); }

// Faults of the kernel's own become errors; all others are none of our business.
static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE};
static struct sigaction usual_action[3];
static pthread_t launcher;
static char* stacks;
static Report* report;

static void on_fault(int signal, siginfo_t* info, void*) {
    if (!now || !pthread_equal(pthread_self(), launcher)) {
        for (int i = 0; i < 3; ++i) sigaction(FAULTS[i], &usual_action[i], nullptr);
        return;  // to the same instruction, and from there to whom it concerns
    }
    char* address = static_cast<char*>(info->si_addr);
    if (signal == SIGFPE) fail("division by zero", *now, "divided a whole number");
    if (!address) fail("out of bounds", *now, "touched address 0, or one that is not aligned to 16 bytes");
    if (address >= stacks && address < stacks + (2 * count + 1) * STACK) fail("too much", *now, "needs stack");
    for (int i = -1; i < shared_count; ++i) {
        const Fenced& memory = i < 0 ? dynamic : shared[i];
        if (address >= memory.mapped && address < memory.mapped + memory.length)
            fail("out of bounds", *now, "touched byte %td of shared memory `%s`, which has %zu bytes",
                 address - memory.data, memory.name, memory.bytes);
    }
    report->touched = address;  // Python knows the arguments and finishes the sentence
    fail("out of bounds", *now, "touched address %p", info->si_addr);
}

static void run_block(const Setup& setup, unsigned& seed) {
    for (int i = 0; i < shared_count; ++i) shared[i].poison();
    dynamic.poison();
    for (int i = 0; i < count; ++i) {
        const unsigned row = i / blockDim.x;
        const dim3 here[2] = {blockIdx, {i % blockDim.x, row % blockDim.y, row / blockDim.y}};
        threads[i].index = here[1], threads[i].watched = false;
        for (int k = 0; k < setup.watched_count; ++k)
            threads[i].watched |= !memcmp(setup.watched[k], here, sizeof(here));
    }
    run_threads(stacks, static_cast<Order>(setup.order), seed);
}

// The message is empty unless something was wrong.
static void launch(const unsigned* grid, const unsigned* block, void** args, void (*entry)(void**),
                   const Setup* setup, Report* told) {
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    count = block[0] * block[1] * block[2];
    kernel = entry, arguments = args, launcher = pthread_self(), seen_count = 0;
    report = told, message = told->message, message_room = sizeof(told->message);
    dynamic = setup->shared_bytes ? fenced("extern", setup->shared_bytes) : Fenced{};
    const size_t length = (2 * count + 1) * STACK;
    stacks = static_cast<char*>(mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks == MAP_FAILED) abort();
    for (int i = 0; i < count; ++i) mprotect(stacks + (2 * i + 1) * STACK, STACK, PROT_READ | PROT_WRITE);
    static char fault_stack[1 << 16];  // the thread's own may be what is used up
    stack_t other = {}, usual;
    other.ss_sp = fault_stack, other.ss_size = sizeof(fault_stack);
    sigaltstack(&other, &usual);
    struct sigaction action = {};
    action.sa_sigaction = on_fault, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 3; ++i) sigaction(FAULTS[i], &action, &usual_action[i]);
    if (sigsetjmp(way_out, 1) == 0) {
        unsigned seed = setup->seed * 2654435761u | 1;
        for (long long i = 0, blocks = 1LL * grid[0] * grid[1] * grid[2]; i < blocks; ++i) {
            const long long at = setup->order == DESCENDING ? blocks - 1 - i : i, row = at / grid[0];
            blockIdx.x = at % grid[0], blockIdx.y = row % grid[1], blockIdx.z = row / grid[1];
            run_block(*setup, seed);
        }
    }
    now = nullptr;
    for (int i = 0; i < 3; ++i) sigaction(FAULTS[i], &usual_action[i], nullptr);
    sigaltstack(&usual, nullptr);
    munmap(stacks, length);
    if (dynamic.data) munmap(dynamic.mapped, dynamic.length);
    told->seen = seen, told->seen_count = seen_count;
}

// Unpacks the void** of cuLaunchKernel by the kernel's own parameter types.
template <auto KERNEL> struct Entry;
template <typename... P, void (*KERNEL)(P...)> struct Entry<KERNEL> {
    static void run(void** args) { run(args, std::index_sequence_for<P...>()); }
    template <size_t... I> static void run(void** args, std::index_sequence<I...>) {
        KERNEL(*static_cast<std::decay_t<P>*>(args[I])...);
    }
    static void describe(char* kinds, int* sizes) { describe_parameters<P...>(kinds, sizes); }
};

template <typename T> Value as_value(T value) {
    if constexpr (std::is_pointer_v<T>) return {0, value, sizeof(*value)};
    else return {static_cast<double>(value), nullptr, 0};
}

// Where a thread is in its warp, and the last lane that it may shuffle with.
struct Lane {
    int own = number(*now) % warpSize, first, last;
    explicit Lane(int width) {
        if (width < 1 || width > warpSize || (width & (width - 1)))
            fail("undefined", *now, "shuffles with a width of %d, not a power of two up to 32", width);
        first = own / width * width, last = first + width - 1;
    }
};

}  // namespace emulator

// From here on, what a kernel sees.
inline void __syncthreads() { emulator::wait("__syncthreads", 0); }
inline void __syncwarp(unsigned mask = ~0u) { emulator::shuffle("__syncwarp", mask, 0, 0); }
template <typename T> T __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {
    return emulator::shuffle("__shfl_sync", mask, value, emulator::Lane(width).first + (source & (width - 1)));
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int change, int width = warpSize) {
    const emulator::Lane lane(width);
    const int source = lane.own ^ change;
    return emulator::shuffle("__shfl_xor_sync", mask, value, source > lane.last ? lane.own : source);
}
template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = warpSize) {
    const emulator::Lane lane(width);
    const int source = lane.own + static_cast<int>(by);
    return emulator::shuffle("__shfl_down_sync", mask, value, source > lane.last ? lane.own : source);
}

template <int BYTES> inline void expect_aligned(const void* address) {
    if (reinterpret_cast<uintptr_t>(address) % BYTES)
        emulator::fail("misaligned", *emulator::now, "touched address %p, which is not a multiple of %d", address,
                       BYTES);
}
// Records the values if somebody asked to see this thread.
template <typename... Values> inline void watch(const char* name, Values... values) {
    using namespace emulator;
    static_assert(sizeof...(Values) <= MOST_VALUES, "watch takes 10 values at most");
    if (!now->watched) return;
    if (seen_count == seen_room) {
        seen = static_cast<Seen*>(realloc(seen, (seen_room = 2 * seen_room + 64) * sizeof(Seen)));
        if (!seen) abort();
    }
    Seen& step = seen[seen_count++];
    step.name = name, step.block = blockIdx, step.thread = threadIdx, step.count = 0;
    ((step.values[step.count++] = as_value(values)), ...);
}

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <typename T> T __ldg(const T* address) { return *address; }
// Only one thread runs at a time, so every addition is whole.
template <typename T> T atomicAdd(T* address, std::common_type_t<T> value) {
    static_assert(!std::is_same_v<T, float4> || __CUDA_ARCH__ >= 900, "before sm_90 floats are added one by one");
    expect_aligned<alignof(T)>(address);
    const T old = *address;
    if constexpr (std::is_same_v<T, float4>)
        *address = {old.x + value.x, old.y + value.y, old.z + value.z, old.w + value.w};
    else *address = old + value;
    return old;
}

// The other number where one is not a number, as on a GPU.
template <typename A, typename B> inline std::common_type_t<A, B> max(A a, B b) {
    if constexpr (std::is_floating_point_v<std::common_type_t<A, B>>) return fmax(a, b);
    else return a > b ? a : b;
}
template <typename A, typename B> inline std::common_type_t<A, B> min(A a, B b) {
    if constexpr (std::is_floating_point_v<std::common_type_t<A, B>>) return fmin(a, b);
    else return a < b ? a : b;
}
