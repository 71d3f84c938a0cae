// Makes a .cu file a C++ file: a block is a loop over its threads, a grid is shared out among a few workers.
//
// There are no barriers, no shared memory and no shuffles here: kernels that need them run in host/emulator.h.
#pragma once
#include <algorithm>
#include <thread>
#include <tuple>
#include <vector>
#include "host/signature.h"

#define __global__ static inline __attribute__((always_inline))
#define __device__ __attribute__((always_inline))
#define __forceinline__
#define __host__
using std::max;
using std::min;

struct dim3 { unsigned x, y, z; };
static thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

template <typename... Values> inline void watch(const char*, Values...) {}

// Blocks are dealt out in runs of one axis. With OWNS_Y a worker takes all blocks of its (y, z) in order of x,
// so kernels that add to memory of their (y, z) need no atomics and give the same sums whatever the workers.
template <bool OWNS_Y, typename Body>
void for_each_block(dim3 grid, dim3 block, int workers, Body body) {
    const long long shares = static_cast<long long>(grid.z) * (OWNS_Y ? grid.y : grid.x);
    workers = static_cast<int>(std::max(1LL, std::min<long long>(workers, shares)));
    auto work = [=](int worker) {
        gridDim = grid, blockDim = block;
        const unsigned along = OWNS_Y ? grid.y : grid.x, across = OWNS_Y ? grid.x : grid.y;
        const long long first = shares * worker / workers, last = shares * (worker + 1) / workers;
        for (long long z = first / along; z * along < last; ++z) {
            const unsigned from = std::max(first - z * along, 0LL);
            const unsigned to = std::min<long long>(last - z * along, along);
            for (unsigned outer = OWNS_Y ? 0 : from; outer < (OWNS_Y ? across : to); ++outer)
                for (unsigned inner = OWNS_Y ? from : 0; inner < (OWNS_Y ? to : across); ++inner) {
                    blockIdx = {outer, inner, static_cast<unsigned>(z)};
                    body();
                }
        }
    };
    std::vector<std::thread> others;
    for (int worker = 1; worker < workers; ++worker) others.emplace_back(work, worker);
    work(0);
    for (auto& other : others) other.join();
}

// Unpacks the void** of cuLaunchKernel by the kernel's own parameter types.
template <auto KERNEL, bool OWNS_Y> struct Launch;
template <typename... P, void (*KERNEL)(P...), bool OWNS_Y> struct Launch<KERNEL, OWNS_Y> {
    static void run(const unsigned* grid, const unsigned* block, void** args, int workers) {
        run(grid, block, args, workers, std::index_sequence_for<P...>());
    }
    template <size_t... I>
    static void run(const unsigned* grid, const unsigned* block, void** args, int workers, std::index_sequence<I...>) {
        const dim3 threads = {block[0], block[1], block[2]};
        for_each_block<OWNS_Y>({grid[0], grid[1], grid[2]}, threads, workers, [=] {
            // Copies whose address nobody knows: what follows from them is then computed once for the block.
            const std::tuple<std::decay_t<P>...> own(*static_cast<std::decay_t<P>*>(args[I])...);
            for (threadIdx.z = 0; threadIdx.z < threads.z; ++threadIdx.z)
                for (threadIdx.y = 0; threadIdx.y < threads.y; ++threadIdx.y)
                    for (threadIdx.x = 0; threadIdx.x < threads.x; ++threadIdx.x) KERNEL(std::get<I>(own)...);
        });
    }
    static void describe(char* kinds, int* sizes) { describe_parameters<P...>(kinds, sizes); }
};
