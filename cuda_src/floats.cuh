// A few numbers at a time: what one thread holds of channels or of sampling points.
//
// On a GPU a Floats<A, N> is N registers, and memory is read 16 bytes at once. On a CPU, host/floats.h takes the
// place of this file and gives the same names to SIMD registers. The kernels are written once, over these names.
#pragma once

#ifndef EMULATOR  // host/emulator.h brings its own half types and checks what a GPU would trap on
#include <cuda_bf16.h>
#include <cuda_fp16.h>
template <int BYTES> __device__ inline void expect_aligned(const void*) {}
template <typename... Values> __device__ inline void watch(const char*, Values...) {}
#endif

#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

// How many sampling points a thread works out at once. One keeps the registers few.
template <typename A> constexpr int POINTS_AT_ONCE = 1;

// How many sums run side by side, as each addition waits for the one before: here other threads go on meanwhile.
constexpr int SUMS = 1;

// Sums are kept in float, whatever the tensors are made of; in double for double.
template <typename T> struct Accumulator { using type = float; };
template <> struct Accumulator<double> { using type = double; };

// N elements as they lie in memory, moved in one instruction where they are 16 bytes.
template <typename T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Packed { T element[N]; };
template <typename T> struct alignas(sizeof(T)) Packed<T, 1> { T element[1]; };

template <typename A, int N> struct Floats {
    A value[N];

    __device__ Floats() {}
    __device__ Floats(A all) { for (int i = 0; i < N; ++i) value[i] = all; }
    __device__ A operator[](int i) const { return value[i]; }

    // N elements that lie side by side; the address must be aligned to N elements, or to 16 bytes.
    template <typename T> __device__ static Floats load(const T* address) {
        expect_aligned<alignof(Packed<T, N>)>(address);
        Packed<T, N> raw = *reinterpret_cast<const Packed<T, N>*>(address);
        Floats read;
        for (int i = 0; i < N; ++i) read.value[i] = static_cast<A>(raw.element[i]);
        return read;
    }
    template <typename T> __device__ void store(T* address) const {
        expect_aligned<alignof(Packed<T, N>)>(address);
        Packed<T, N> raw;
        for (int i = 0; i < N; ++i) raw.element[i] = static_cast<T>(value[i]);
        *reinterpret_cast<Packed<T, N>*>(address) = raw;
    }

    // The first `count` elements; the others are `rest`.
    template <typename T> __device__ static Floats load_some(const T* address, int count, A rest) {
        Floats read;
        for (int i = 0; i < N; ++i) read.value[i] = i < count ? static_cast<A>(address[i]) : rest;
        return read;
    }
    template <typename T> __device__ void store_some(T* address, int count) const {
        for (int i = 0; i < N && i < count; ++i) address[i] = static_cast<T>(value[i]);
    }
    // Pairs x0 y0 x1 y1 ... in memory to x0 x1 ... and y0 y1 ..., and back.
    template <typename T>
    __device__ static void load_pairs(const T* address, int count, Floats& x, Floats& y) {
        for (int i = 0; i < N && i < count; ++i) {
            Packed<T, 2> pair = *reinterpret_cast<const Packed<T, 2>*>(address + 2 * i);
            x.value[i] = static_cast<A>(pair.element[0]);
            y.value[i] = static_cast<A>(pair.element[1]);
        }
    }
    template <typename T>
    __device__ static void store_pairs(T* address, int count, const Floats& x, const Floats& y) {
        for (int i = 0; i < N && i < count; ++i) {
            Packed<T, 2> pair = {static_cast<T>(x.value[i]), static_cast<T>(y.value[i])};
            *reinterpret_cast<Packed<T, 2>*>(address + 2 * i) = pair;
        }
    }

    __device__ static Floats counting_from(int first) {
        Floats made;
        for (int i = 0; i < N; ++i) made.value[i] = static_cast<A>(first + i);
        return made;
    }
    __device__ void add(A factor, const Floats& other) {
        for (int i = 0; i < N; ++i) value[i] += factor * other.value[i];
    }
    __device__ A sum() const {
        A total = value[0];
        for (int i = 1; i < N; ++i) total += value[i];
        return total;
    }
    __device__ A largest() const {
        A most = value[0];
        for (int i = 1; i < N; ++i) most = max(most, value[i]);
        return most;
    }

    // Add `factor` times these to memory that other threads add to as well.
    __device__ void scaled_add_to(A* address, A factor) const {
#if __CUDA_ARCH__ >= 900
        if constexpr (sizeof(A) == 4 && N % 4 == 0) {
            for (int i = 0; i < N; i += 4)
                atomicAdd(reinterpret_cast<float4*>(address + i),
                          make_float4(factor * value[i], factor * value[i + 1],
                                      factor * value[i + 2], factor * value[i + 3]));
            return;
        }
#endif
        for (int i = 0; i < N; ++i) atomicAdd(address + i, factor * value[i]);
    }
};

#define LANE_BY_LANE(HEAD, EXPRESSION) \
    template <typename A, int N> __device__ inline Floats<A, N> HEAD { \
        Floats<A, N> made; \
        for (int i = 0; i < N; ++i) made.value[i] = EXPRESSION; \
        return made; \
    }
LANE_BY_LANE(operator+(Floats<A, N> a, Floats<A, N> b), a[i] + b[i])
LANE_BY_LANE(operator-(Floats<A, N> a, Floats<A, N> b), a[i] - b[i])
LANE_BY_LANE(operator*(Floats<A, N> a, Floats<A, N> b), a[i] * b[i])
LANE_BY_LANE(operator/(Floats<A, N> a, Floats<A, N> b), a[i] / b[i])
LANE_BY_LANE(floor(Floats<A, N> a), floor(a[i]))
LANE_BY_LANE(magnitude(Floats<A, N> a), fabs(a[i]))
LANE_BY_LANE(exp(Floats<A, N> a), exp(a[i]))
LANE_BY_LANE(minimum(Floats<A, N> a, A b), min(a[i], b))
LANE_BY_LANE(maximum(Floats<A, N> a, A b), max(a[i], b))  // b where a is not a number
LANE_BY_LANE(multiply_add(Floats<A, N> a, Floats<A, N> b, Floats<A, N> c), a[i] * b[i] + c[i])
LANE_BY_LANE(where_equal(Floats<A, N> a, Floats<A, N> b, Floats<A, N> then), a[i] == b[i] ? then[i] : A(0))
LANE_BY_LANE(where_above(Floats<A, N> a, A limit, Floats<A, N> then), a[i] > limit ? then[i] : A(0))
#undef LANE_BY_LANE

// The numbers one by one.
template <typename A, int N> using Lanes = Floats<A, N>;

// Lane by lane as whole numbers, for addresses; the values must be whole already.
template <int N> struct Wholes {
    int value[N];
    template <typename A> __device__ Wholes(const Floats<A, N>& a, int factor) {
        for (int i = 0; i < N; ++i) value[i] = static_cast<int>(a[i]) * factor;
    }
    __device__ int operator[](int i) const { return value[i]; }
};

// For P points the products <grad, x>, summed over N channels, with what was read at their four corners: upper
// left, upper right, lower left, lower right.
template <typename A, int N, int P> struct CornerDots {
    Floats<A, P> ul, ur, ll, lr;
    __device__ CornerDots() : ul(0), ur(0), ll(0), lr(0) {}
    __device__ void add(int k, Floats<A, N> grad, Floats<A, N> a, Floats<A, N> b, Floats<A, N> c, Floats<A, N> d) {
        for (int i = 0; i < N; ++i) {
            ul.value[k] += grad[i] * a[i], ur.value[k] += grad[i] * b[i];
            ll.value[k] += grad[i] * c[i], lr.value[k] += grad[i] * d[i];
        }
    }
    __device__ void read(Floats<A, P>& a, Floats<A, P>& b, Floats<A, P>& c, Floats<A, P>& d) const {
        a = ul, b = ur, c = ll, d = lr;
    }
};

// The sums over the LANES neighbouring threads that share a group; each of them gets all.
template <int LANES, typename A, int N> __device__ inline Floats<A, N> over_lanes(Floats<A, N> sums) {
    for (int apart = LANES / 2; apart > 0; apart /= 2)
        for (int i = 0; i < N; ++i) sums.value[i] += __shfl_xor_sync(~0u, sums.value[i], apart, LANES);
    return sums;
}
