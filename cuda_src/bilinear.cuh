// Reading a picture between its pixels, one axis at a time; pixel centres are whole positions.
#pragma once
#include "floats.cuh"

// Two neighbouring pixels of an axis, what each of them counts at some positions, and how that changes.
//
// A pixel counts 1 where the position is, and nothing a whole pixel away. Both are kept inside, so that both can be
// read: a position outside is then near one of them at most. Where there is one pixel only, the second counts nothing.
template <typename A, int P> struct Axis {
    using F = Floats<A, P>;
    F before, past;  // the first pixel, and how far behind it the position is
    F second;        // 1 if there is a second pixel

    __device__ Axis(F position, A length) : second(length > 1 ? 1 : 0) {
        before = maximum(minimum(floor(position), length - 2), A(0));
        past = position - before;
    }
    __device__ F after() const { return before + second; }
    __device__ F share_before() const { return maximum(F(1) - magnitude(past), A(0)); }
    __device__ F share_after() const { return maximum(second - magnitude(past - F(1)), A(0)); }
    // At whole positions the slope to the right counts, but a whole pixel outside there is none.
    __device__ F slope_before() const {
        const F pixel = floor(past);
        return where_above(past, A(-1), where_equal(pixel, F(-1), F(1))) - where_equal(pixel, F(0), F(1));
    }
    __device__ F slope_after() const {
        const F pixel = floor(past);
        return second * (where_equal(pixel, F(0), F(1)) - where_equal(pixel, F(1), F(1)));
    }
};
