// Floats<A, N> on a CPU: N numbers in SIMD registers, by the vector types of GCC and Clang.
//
// A thread holds all channels of a group, and works out up to 16 sampling points together: with AVX-512 each
// is one register. What the vector types cannot say is said in intrinsics, with a plain loop beside it.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include "host/half.h"
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define AVX512 1
#include <immintrin.h>
#else
#define AVX512 0
#endif

#define UNROLL _Pragma("GCC unroll 16")
#define ROLLED

template <typename A> constexpr int POINTS_AT_ONCE = 16;
constexpr int SUMS = 2;

template <typename T> struct Accumulator { using type = float; };
template <> struct Accumulator<double> { using type = double; };

template <typename T, typename A, int N> constexpr bool IS_ONE_REGISTER_OF =
    AVX512 && std::is_same_v<A, float> && N == 16 && std::is_same_v<T, float>;

template <typename A, int N> struct VectorOf { typedef A type __attribute__((vector_size(sizeof(A) * N))); };

template <typename A, int N> struct Floats {
    using Vector = typename VectorOf<A, N>::type;
    Vector value;

    Floats() {}
    Floats(A all) { value = all - Vector{}; }
    Floats(Vector value) : value(value) {}
    A operator[](int i) const { return value[i]; }

    template <typename T> static Floats load(const T* address) {
        Floats read;
        if constexpr (std::is_same_v<T, A>) std::memcpy(&read.value, address, sizeof(Vector));
#if AVX512
        else if constexpr (std::is_same_v<T, __half> && N == 16)
            read.value = (Vector)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(address)));
        else if constexpr (std::is_same_v<T, __nv_bfloat16> && N == 16)
            read.value = (Vector)_mm512_castsi512_ps(_mm512_slli_epi32(
                _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(address))), 16));
#endif
        else for (int i = 0; i < N; ++i) read.value[i] = address[i];
        return read;
    }
    template <typename T> void store(T* address) const {
        if constexpr (std::is_same_v<T, A>) std::memcpy(address, &value, sizeof(Vector));
#if AVX512
        else if constexpr (std::is_same_v<T, __half> && N == 16)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(address), _mm512_cvtps_ph((__m512)value, 0));
#endif
        else for (int i = 0; i < N; ++i) address[i] = T(value[i]);
    }

    template <typename T> static Floats load_some(const T* address, int count, A rest) {
        Floats read(rest);
#if AVX512
        if constexpr (IS_ONE_REGISTER_OF<T, A, N>) {
            read.value = (Vector)_mm512_mask_loadu_ps((__m512)read.value, first_lanes(count), address);
            return read;
        } else if constexpr (sizeof(T) == 2 && N == 16) {
            T copy[N];
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(copy), _mm256_maskz_loadu_epi16(first_lanes(count), address));
            read.value = (Vector)_mm512_mask_mov_ps((__m512)read.value, first_lanes(count), (__m512)load(copy).value);
            return read;
        }
#endif
        for (int i = 0; i < N && i < count; ++i) read.value[i] = address[i];
        return read;
    }
    template <typename T> void store_some(T* address, int count) const {
#if AVX512
        if constexpr (IS_ONE_REGISTER_OF<T, A, N>)
            return _mm512_mask_storeu_ps(address, first_lanes(count), (__m512)value);
#endif
        for (int i = 0; i < N && i < count; ++i) address[i] = T(value[i]);
    }
    template <typename T> static void load_pairs(const T* address, int count, Floats& x, Floats& y) {
        const Floats low = load_some(address, 2 * count, 0), high = load_some(address + N, 2 * count - N, 0);
#if AVX512
        if constexpr (std::is_same_v<A, float> && N == 16) {
            const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            x.value = (Vector)_mm512_permutex2var_ps((__m512)low.value, even, (__m512)high.value);
            y.value = (Vector)_mm512_permutex2var_ps((__m512)low.value, odd, (__m512)high.value);
            return;
        }
#endif
        for (int i = 0; i < N; ++i) {
            x.value[i] = 2 * i < N ? low[2 * i] : high[2 * i - N];
            y.value[i] = 2 * i < N ? low[2 * i + 1] : high[2 * i + 1 - N];
        }
    }
    template <typename T> static void store_pairs(T* address, int count, const Floats& x, const Floats& y) {
#if AVX512
        if constexpr (IS_ONE_REGISTER_OF<T, A, N>) {
            const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            Floats((Vector)_mm512_permutex2var_ps((__m512)x.value, low, (__m512)y.value)).store_some(address, 2 * count);
            Floats((Vector)_mm512_permutex2var_ps((__m512)x.value, high, (__m512)y.value))
                .store_some(address + N, 2 * count - N);
            return;
        }
#endif
        for (int i = 0; i < N && i < count; ++i) address[2 * i] = T(x.value[i]), address[2 * i + 1] = T(y.value[i]);
    }

    static Floats counting_from(int first) {
        Floats made;
        for (int i = 0; i < N; ++i) made.value[i] = A(first + i);
        return made;
    }
    void add(A factor, const Floats& other) { value += factor * other.value; }
    A sum() const {
#if AVX512
        if constexpr (std::is_same_v<A, float> && N == 16) return _mm512_reduce_add_ps((__m512)value);
#endif
        A total = value[0];
        for (int i = 1; i < N; ++i) total += value[i];
        return total;
    }
    A largest() const {
#if AVX512
        if constexpr (std::is_same_v<A, float> && N == 16) return _mm512_reduce_max_ps((__m512)value);
#endif
        A most = value[0];
        for (int i = 1; i < N; ++i) most = value[i] > most ? value[i] : most;
        return most;
    }
    // No other thread adds to this memory at the same time: the launcher sees to that.
    void scaled_add_to(A* address, A factor) const { multiply_add(*this, Floats(factor), load(address)).store(address); }

#if AVX512
    static __mmask16 first_lanes(int count) { return count <= 0 ? 0 : count >= 16 ? 0xFFFF : (1u << count) - 1; }
#endif
    friend Floats operator+(Floats a, Floats b) { return a.value + b.value; }
    friend Floats operator-(Floats a, Floats b) { return a.value - b.value; }
    friend Floats operator*(Floats a, Floats b) { return a.value * b.value; }
    friend Floats multiply_add(Floats a, Floats b, Floats c) { return a.value * b.value + c.value; }
    friend Floats operator/(Floats a, Floats b) { return a.value / b.value; }
    friend Floats minimum(Floats a, A b) { return a.value < b ? a.value : Floats(b).value; }
    friend Floats maximum(Floats a, A b) {  // b where a is not a number
#if AVX512
        if constexpr (std::is_same_v<A, float> && N == 16)
            return (Vector)_mm512_max_ps((__m512)a.value, (__m512)Floats(b).value);
#endif
        return a.value > b ? a.value : Floats(b).value;
    }
    friend Floats magnitude(Floats a) { return a.value < 0 ? -a.value : a.value; }
    friend Floats where_equal(Floats a, Floats b, Floats then) { return a.value == b.value ? then.value : Vector{}; }
    friend Floats where_above(Floats a, A limit, Floats then) { return a.value > limit ? then.value : Vector{}; }
    friend Floats floor(Floats a) {
#if AVX512
        if constexpr (std::is_same_v<A, float> && N == 16)
            return (Vector)_mm512_roundscale_ps((__m512)a.value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#endif
        for (int i = 0; i < N; ++i) a.value[i] = std::floor(a.value[i]);
        return a;
    }
    // e**a = 2**whole * e**part with |part| <= ln(2) / 2: eight terms of the series leave an error of 6e-9.
    // What would be a subnormal number is 0, as NVRTC has it with -ftz=true.
    friend Floats exp(Floats a) {
        if constexpr (std::is_same_v<A, float>) {
            using Integers = typename VectorOf<int, N>::type;
            const Vector x = minimum(maximum(a, -87.3f), 88.3f).value;
            const Vector whole = floor(Floats(x * 1.44269504f + 0.5f)).value;
            const Vector part = (x - whole * 0.693145752f) - whole * 1.42860677e-6f, square = part * part;
            const Vector low = (part + 1) + square * (part * (1 / 6.0f) + 0.5f);
            const Vector high = (part * (1 / 120.0f) + 1 / 24.0f) + square * (part * (1 / 5040.0f) + 1 / 720.0f);
            const Integers power = (__builtin_convertvector(whole, Integers) + 127) << 23;
            return where_above(a, -87.3f, Floats((low + square * square * high) * (Vector)power));
        } else {
            for (int i = 0; i < N; ++i) a.value[i] = std::exp(a.value[i]);
            return a;
        }
    }
};

// The numbers one by one: from memory, since a register does not give out its lanes so quickly.
template <typename A, int N> struct Lanes {
    alignas(64) A value[N];
    Lanes(const Floats<A, N>& a) {
        std::memcpy(value, &a.value, sizeof(value));
        asm("" : "+m"(value));  // or else the compiler reads the register lane by lane after all
    }
    A operator[](int i) const { return value[i]; }
};

template <int N> struct Wholes {
    alignas(64) int value[N];
    template <typename A> Wholes(const Floats<A, N>& a, int factor) {
        using Integers = typename VectorOf<int, N>::type;
        const Integers whole = __builtin_convertvector(a.value, Integers) * factor;
        std::memcpy(value, &whole, sizeof(value));
        asm("" : "+m"(value));
    }
    int operator[](int i) const { return value[i]; }
};

template <typename V, size_t... I> inline V add_neighbours(V a, V b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, (2 * I)...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
}

// Neighbours are added until every sum is one number. The four corners of a point become one vector at once,
// so that all points fit into registers; then vectors of neighbouring points become one, until none is left.
template <typename A, int N, int P, bool BY_HALVES = (N >= 4 && N <= 4 * P)> struct CornerDots {
    using V = typename Floats<A, N>::Vector;
    V kept[P];

    CornerDots() {
        UNROLL
        for (int k = 0; k < P; ++k) kept[k] = V{};
    }
    static V halves(V a, V b) { return add_neighbours(a, b, std::make_index_sequence<N>()); }
    void add(int k, Floats<A, N> grad, Floats<A, N> a, Floats<A, N> b, Floats<A, N> c, Floats<A, N> d) {
        const V upper = halves((grad * a).value, (grad * b).value), lower = halves((grad * c).value, (grad * d).value);
        kept[k] += halves(upper, lower);  // N / 4 numbers for each corner
    }
    void read(Floats<A, P>& a, Floats<A, P>& b, Floats<A, P>& c, Floats<A, P>& d) {
        UNROLL
        for (int rows = P / 2; rows >= 4 * P / N; rows /= 2) {
            UNROLL
            for (int k = 0; k < rows; ++k) kept[k] = halves(kept[2 * k], kept[2 * k + 1]);
        }
        A corners[4 * P], left[2 * P], right[2 * P];  // of point 0, of point 1, ...; then by column
        std::memcpy(corners, kept, sizeof(corners));
        Floats<A, P> x, y;
        for (int half : {0, 1}) {
            Floats<A, P>::load_pairs(corners + 2 * P * half, P, x, y);
            x.store(left + P * half), y.store(right + P * half);
        }
        Floats<A, P>::load_pairs(left, P, a, c);
        Floats<A, P>::load_pairs(right, P, b, d);
    }
};
template <typename A, int N, int P> struct CornerDots<A, N, P, false> {
    Floats<A, P> ul, ur, ll, lr;
    CornerDots() : ul(0), ur(0), ll(0), lr(0) {}
    void add(int k, Floats<A, N> grad, Floats<A, N> a, Floats<A, N> b, Floats<A, N> c, Floats<A, N> d) {
        ul.value[k] += (grad * a).sum(), ur.value[k] += (grad * b).sum();
        ll.value[k] += (grad * c).sum(), lr.value[k] += (grad * d).sum();
    }
    void read(Floats<A, P>& a, Floats<A, P>& b, Floats<A, P>& c, Floats<A, P>& d) const {
        a = ul, b = ur, c = ll, d = lr;
    }
};

// On a CPU a thread holds all channels of its group.
template <int LANES, typename A, int N> inline Floats<A, N> over_lanes(Floats<A, N> sums) {
    static_assert(LANES == 1);
    return sums;
}
