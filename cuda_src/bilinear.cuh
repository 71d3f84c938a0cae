// Reading a picture between its pixels, one axis at a time; pixel centres are whole positions.
#pragma once
#include "floats.cuh"

// Between which two pixels of an axis some positions lie, what each of the two counts, and how that changes.
template <typename A, int P> struct Axis {
    Floats<A, P> before, after, share_before, share_after, slope_before, slope_after;

    __device__ Axis(Floats<A, P> position, A length) {
        position = minimum(maximum(position, A(-1)), length);
        Floats<A, P> low = floor(position), high = low + Floats<A, P>(1), part = position - low;
        before = minimum(maximum(low, A(0)), length - 1);  // an address inside, whatever it counts
        after = minimum(high, length - 1);
        share_before = where_equal(before, low, Floats<A, P>(1) - part);  // outside there is zero
        share_after = where_equal(after, high, part);
        slope_before = where_equal(before, low, Floats<A, P>(-1));
        // A whole pixel outside there is no slope either, and at whole positions the right-hand one counts.
        slope_after = where_above(position, A(-1), where_equal(after, high, Floats<A, P>(1)));
    }
};
