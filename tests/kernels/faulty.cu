// Small kernels for test_emulator.py. RIGHT = false plants the fault that the test names.
#include "floats.cuh"

template <bool RIGHT> __global__ void reverse(const float* input, float* output) {
    __shared__ float tile[64];
    tile[threadIdx.x] = input[blockIdx.x * blockDim.x + threadIdx.x];
    if (RIGHT) __syncthreads();
    output[blockIdx.x * blockDim.x + threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

template <bool RIGHT> __global__ void block_sum(const float* input, float* output) {
    __shared__ float tile[64];
    tile[threadIdx.x] = input[blockIdx.x * blockDim.x + threadIdx.x];
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (RIGHT || half == 32) __syncthreads();
        if (threadIdx.x < half) tile[threadIdx.x] += tile[threadIdx.x + half];
    }
    if (threadIdx.x == 0) output[blockIdx.x] = tile[0];
}

// Eight threads add up eight numbers; there may be fewer rows than threads.
template <bool RIGHT> __global__ void row_sums(const float* input, float* output, int count) {
    const int here = blockIdx.x * blockDim.x + threadIdx.x;
    if (!RIGHT && here >= count) return;
    float sum = here < count ? input[here] : 0.0f;
    for (int apart = 4; apart > 0; apart /= 2) sum += __shfl_xor_sync(~0u, sum, apart, 8);
    if (here < count && here % 8 == 0) output[here / 8] = sum;
}

template <bool RIGHT> __global__ void leave_before_barrier(const float* input, float* output, int count) {
    const bool exists = threadIdx.x < count;
    if (!RIGHT && !exists) return;
    __shared__ float tile;
    if (threadIdx.x == 0) tile = input[0];
    __syncthreads();
    if (exists) output[threadIdx.x] = tile;
}

template <bool RIGHT> __global__ void part_ways(const float* input, float* output) {
    float value = input[threadIdx.x];
    if (!RIGHT && threadIdx.x % 4 == 0) __syncthreads();
    else value = __shfl_sync(~0u, value, 0);
    output[threadIdx.x] = value;
}

template <bool RIGHT> __global__ void mix_shuffles(const float* input, float* output) {
    const float value = input[threadIdx.x];
    if (RIGHT || threadIdx.x % 4) output[threadIdx.x] = __shfl_xor_sync(~0u, value, 1);
    else output[threadIdx.x] = __shfl_down_sync(~0u, value, 1);
}

template <bool RIGHT> __global__ void swap_in_warp(const float* input, float* output) {
    __shared__ float tile[64];
    tile[threadIdx.x] = input[threadIdx.x];
    if (RIGHT) __syncwarp();
    output[threadIdx.x] = tile[threadIdx.x ^ 1];
}

template <bool RIGHT> __global__ void split_masks(const float* input, float* output) {
    const unsigned mask = RIGHT || threadIdx.x < 16 ? ~0u : 0xFFFF8000;
    output[threadIdx.x] = __shfl_xor_sync(mask, input[threadIdx.x], 1);
}

template <bool RIGHT> __global__ void moved(const float* input, float* output, int read, int write, int count) {
    const int here = blockIdx.x * blockDim.x + threadIdx.x, from = here + read, to = here + write;
    if (RIGHT && (from < 0 || from >= count || to < 0 || to >= count)) return;
    output[to] = input[from];
}

// Four numbers at once, from any place on.
__global__ void copied(const float* input, float* output, int from) {
    Floats<float, 4>::load(input + from + 4 * threadIdx.x).store(output + 4 * threadIdx.x);
}

// From sm_90 on four additions are one.
__global__ void added(const float* input, float* output, int to) {
    const float* four = input + 4 * threadIdx.x;
#if __CUDA_ARCH__ >= 900
    atomicAdd(reinterpret_cast<float4*>(output + to), make_float4(four[0], four[1], four[2], four[3]));
#else
    for (int i = 0; i < 4; ++i) atomicAdd(output + to + i, four[i]);
#endif
}

__global__ void arrivals(const int* input, int* output) {
    output[1 + blockIdx.x] = input[0] + atomicAdd(output, 1);
}

__global__ void next_in_tile(const float* input, float* output, int apart) {
    __shared__ float tile[32];
    tile[threadIdx.x] = input[threadIdx.x];
    __syncthreads();
    output[threadIdx.x] = tile[threadIdx.x + apart];
}

__global__ void reverse_dynamic(const float* input, float* output) {
    extern __shared__ float tile[];
    tile[threadIdx.x] = input[threadIdx.x];
    __syncthreads();
    output[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

__global__ void divided(const int* input, int* output, int by) { output[threadIdx.x] = input[threadIdx.x] / by; }

__global__ void hungry(int* output) {
    volatile char big[100000];
    big[0] = 1;
    output[threadIdx.x] = big[0];
}

template <typename T, int WIDTH> __global__ void shuffled(const T* input, T* output, int by) {
    const T own = input[threadIdx.x];
    output[threadIdx.x] = __shfl_sync(~0u, own, by, WIDTH);
    output[threadIdx.x + blockDim.x] = __shfl_xor_sync(~0u, own, by, WIDTH);
    output[threadIdx.x + 2 * blockDim.x] = __shfl_down_sync(~0u, own, by, WIDTH);
}

template <typename T> __global__ void rounded(const float* input, T* narrow, float* wide) {
    narrow[threadIdx.x] = static_cast<T>(input[threadIdx.x]);
    wide[threadIdx.x] = static_cast<float>(narrow[threadIdx.x]);
}

template <typename T> __global__ void extremes(const T* a, const T* b, T* least, T* most) {
    least[threadIdx.x] = min(__ldg(a + threadIdx.x), b[threadIdx.x]);
    most[threadIdx.x] = max(a[threadIdx.x], b[threadIdx.x]);
}

struct Line {
    double slope;
    float start;
    int count;
};
__global__ void on_line(const float* input, float* output, Line line, float factor, int first) {
    const int here = first + threadIdx.x;
    if (here < line.count) output[here] = factor * (line.start + static_cast<float>(line.slope) * input[here]);
}

// Who is where, in three dimensions.
__global__ void places(int* output) {
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    output[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
    watch("place", block, 0.5f * thread, output + thread);
}
