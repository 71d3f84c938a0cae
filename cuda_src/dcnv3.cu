// DCNv3: every output is a weighted sum of bilinear reads that may lie anywhere.
//
//     y_g(p0) = sum_k  m_gk * x_g(p0 + p_k + offset_gk)                          (InternImage, eq. 2)
//
// One thread holds V channels of one group at one output pixel p0; LANES threads share the pixel and the group
// and, in the backward, add up what they found. A thread works out POINTS_AT_ONCE points together.
//
// T      element type of the tensors; sums are in A = Accumulator<T>
// KERNEL side of the kernel grid, 0 for "as the Layout says"
// WIDTH  channels of a group, 0 for "as the Layout says", any number
// RULE   what turns the logits of a group into its modulation: SOFTMAX, SIGMOID, or NONE (they are it already)
//
// Threads: x over lanes and groups, y over a tile of pixels; blocks: x over tiles, y the groups left, z pictures.
#include "bilinear.cuh"

enum Rule { NONE, SOFTMAX, SIGMOID };
constexpr float NOTHING = -3e38f;  // a logit whose exponential is 0

// As numpy sees it. Tensors are (N, H, W, groups * channels), channels last; of input and its gradient, however,
// pixels are pixel_step numbers apart and groups group_step, so that all pixels of a group may lie together.
struct Layout {
    double offset_scale;
    long long group_step;
    int pixel_step, height, width, out_height, out_width, groups, group_channels;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_h, pad_w;
};

// Which output pixel and which group a thread works for, and where their numbers lie in memory.
template <int KERNEL, int V, int LANES, int WIDTH> struct Place {
    int channels, points, kernel_h, lane, group, row, column;
    long long pixel, at_points, at_input, at_output;
    bool exists;

    __device__ Place(const Layout& layout) {
        channels = WIDTH ? WIDTH : layout.group_channels, kernel_h = KERNEL ? KERNEL : layout.kernel_h;
        points = kernel_h * (KERNEL ? KERNEL : layout.kernel_w);
        const unsigned thread = blockIdx.y * blockDim.x + threadIdx.x;  // unsigned, so that no lane is below 0 and
        int here = blockIdx.x * blockDim.y + threadIdx.y;               // one turn over the channels is seen to do
        lane = thread % LANES, group = thread / LANES;
        exists = group < layout.groups && here < layout.out_height * layout.out_width;
        if (!exists) group = here = 0;  // threads to spare stay inside the tensors, and write nothing
        row = here / layout.out_width, column = here % layout.out_width;
        pixel = static_cast<long long>(blockIdx.z) * (layout.out_height * layout.out_width) + here;
        at_points = (pixel * layout.groups + group) * points;
        at_output = (pixel * layout.groups + group) * channels;
        at_input = static_cast<long long>(blockIdx.z) * (layout.height * layout.width) * (layout.groups * channels)
                 + group * layout.group_step;
        watch("place", exists, lane, group, row, column, at_points, at_input, at_output);
    }
};

// p0 + p_k + offset_gk for the points from `first` on; offset_scale stretches p_k as well.
template <typename A, int P, typename T, typename Here>
__device__ inline void sampling_points(const Layout& layout, const Here& place, const T* offset, int first,
                                       Floats<A, P>& x, Floats<A, P>& y) {
    using F = Floats<A, P>;
    A scale = static_cast<A>(layout.offset_scale);
    const int half_w = layout.dilation_w * (place.points / place.kernel_h - 1) / 2;
    const int half_h = layout.dilation_h * (place.kernel_h - 1) / 2;
    F number = F::counting_from(first);  // down a column first: k = column * kernel_h + row
    F column = floor(multiply_add(number, F(A(1) / place.kernel_h), F(A(0.5) / place.kernel_h)));
    F row = multiply_add(column, F(A(-place.kernel_h)), number);
    F offset_x(0), offset_y(0);
    F::load_pairs(offset + 2 * (place.at_points + first), place.points - first, offset_x, offset_y);
    const A start_x = place.column * layout.stride_w - layout.pad_w + half_w * (1 - scale);
    const A start_y = place.row * layout.stride_h - layout.pad_h + half_h * (1 - scale);
    x = multiply_add(multiply_add(column, F(A(layout.dilation_w)), offset_x), F(scale), F(start_x));
    y = multiply_add(multiply_add(row, F(A(layout.dilation_h)), offset_y), F(scale), F(start_y));
    watch("point", first, x[0], y[0]);
}

// The modulation m_gk of all points of a group, made from its logits. With a known KERNEL the exponentials of
// the softmax are kept, else they are computed again for every block of points.
template <typename A, int P, int KERNEL, int RULE> struct Modulation {
    using F = Floats<A, P>;
    A most = 0, share = 1;
    F kept[KERNEL ? (KERNEL * KERNEL + P - 1) / P : 1];

    template <typename T> __device__ Modulation(const T* logits, int points) {
        if constexpr (RULE == SOFTMAX) {
            most = A(NOTHING);
            UNROLL
            for (int k = 0; k < points; k += P) {
                F read = F::load_some(logits + k, points - k, A(NOTHING));
                if (KERNEL) kept[k / P] = read;
                most = max(most, read.largest());
            }
            A sum = 0;
            UNROLL
            for (int k = 0; k < points; k += P) {
                F part = exp((KERNEL ? kept[k / P] : F::load_some(logits + k, points - k, A(NOTHING))) - F(most));
                if (KERNEL) kept[k / P] = part;
                sum += part.sum();
            }
            share = 1 / sum;
        }
    }
    // Of the points from `first` on; zero for those that are none.
    template <typename T> __device__ F operator()(const T* logits, int first, int points) const {
        if constexpr (RULE == SOFTMAX && KERNEL) return kept[first / P] * F(share);
        F read = F::load_some(logits + first, points - first, RULE == NONE ? A(0) : A(NOTHING));
        if constexpr (RULE == SOFTMAX) return exp(read - F(most)) * F(share);
        if constexpr (RULE == SIGMOID) return F(1) / (F(1) + exp(F(0) - read));
        return read;
    }
};

// What each of the four pixels round a point counts: its modulation, shared out by distance.
template <typename A, int P> struct CornerWeights {
    Lanes<A, P> upper_left, upper_right, lower_left, lower_right;
    __device__ CornerWeights(const Floats<A, P>& m, const Axis<A, P>& x, const Axis<A, P>& y)
        : upper_left(m * y.share_before() * x.share_before()), upper_right(m * y.share_before() * x.share_after()),
          lower_left(m * y.share_after() * x.share_before()), lower_right(m * y.share_after() * x.share_after()) {}
};

template <typename T, int KERNEL, int V, int LANES, int WIDTH, int RULE>
__global__ void dcnv3_forward(const T* __restrict__ input, const T* __restrict__ offset,
                              const T* __restrict__ logits, T* __restrict__ output, Layout layout) {
    using A = typename Accumulator<T>::type;
    constexpr int P = POINTS_AT_ONCE<A>;
    const Place<KERNEL, V, LANES, WIDTH> place(layout);
    if (!place.exists) return;
    const int step = layout.pixel_step, line = layout.width * step;  // one pixel to the right, one down
    const int next = layout.width > 1 ? step : 0, next_line = layout.height > 1 ? line : 0;
    logits += place.at_points;
    const Modulation<A, P, KERNEL, RULE> modulation(logits, place.points);
    for (int channel = place.lane * V; channel < place.channels; channel += LANES * V) {
        const T* picture = input + place.at_input + channel;
        Floats<A, V> sums[2] = {Floats<A, V>(0), Floats<A, V>(0)}, &on_top = sums[0], &at_bottom = sums[SUMS - 1];
        UNROLL
        for (int first = 0; first < place.points; first += P) {
            const int count = min(P, place.points - first);
            const Floats<A, P> m = modulation(logits, first, place.points);
            Floats<A, P> x_position, y_position;
            sampling_points(layout, place, offset, first, x_position, y_position);
            const Axis<A, P> x(x_position, A(layout.width)), y(y_position, A(layout.height));
            const Wholes<P> left(x.before, step), above(y.before, 1);
            const CornerWeights<A, P> weight(m, x, y);
            UNROLL
            for (int k = 0; k < count; ++k) {
                const T* upper = picture + static_cast<long long>(above[k]) * line + left[k];
                const T* lower = upper + next_line;
                watch("read", first + k, upper, upper + next, lower, lower + next, m[k], weight.upper_left[k],
                      weight.upper_right[k], weight.lower_left[k], weight.lower_right[k]);
                on_top.add(weight.upper_left[k], Floats<A, V>::load(upper));
                on_top.add(weight.upper_right[k], Floats<A, V>::load(upper + next));
                at_bottom.add(weight.lower_left[k], Floats<A, V>::load(lower));
                at_bottom.add(weight.lower_right[k], Floats<A, V>::load(lower + next));
                watch("sum", first + k, (sums[0] + sums[1])[0]);
            }
        }
        (sums[0] + sums[1]).store(output + place.at_output + channel);
    }
}

// Scatter dL/dx: the gradient, times what they count, to the four corners of point k.
template <typename A, int V, int P>
__device__ inline void scatter(const Floats<A, V>& grad, A* upper, int next, int next_line,
                               const CornerWeights<A, P>& weight, int k) {
    A* lower = upper + next_line;
    grad.scaled_add_to(upper, weight.upper_left[k]), grad.scaled_add_to(upper + next, weight.upper_right[k]);
    grad.scaled_add_to(lower, weight.lower_left[k]), grad.scaled_add_to(lower + next, weight.lower_right[k]);
}

// The chain rule through the same sum, point by point: first what the pixels say, then what they are told.
// grad_input is added to, so it must start as zeros. Unless all points are worked out together, grad_logits keeps
// dL/dm until the whole softmax is known; so both are of the type of the sums.
template <typename T, int KERNEL, int V, int LANES, int WIDTH, int RULE>
__global__ void dcnv3_backward(const T* __restrict__ grad_output, const T* __restrict__ input,
                               const T* __restrict__ offset, const T* __restrict__ logits,
                               typename Accumulator<T>::type* grad_input, T* __restrict__ grad_offset,
                               typename Accumulator<T>::type* __restrict__ grad_logits, Layout layout) {
    using A = typename Accumulator<T>::type;
    constexpr int P = POINTS_AT_ONCE<A>;
    constexpr bool ALL_AT_ONCE = KERNEL && KERNEL * KERNEL <= P;
    using F = Floats<A, P>; using C = Floats<A, V>;
    const Place<KERNEL, V, LANES, WIDTH> place(layout);  // no early return: shuffles need every thread
    const int step = layout.pixel_step, line = layout.width * step;
    const int next = layout.width > 1 ? step : 0, next_line = layout.height > 1 ? line : 0;
    // Reading and adding in one loop is quicker; in two it leaves a GPU's thread more registers.
    constexpr bool IN_ONE_LOOP = P > 1;
    const bool writes = place.exists && place.lane == 0;
    logits += place.at_points, grad_logits += place.at_points;
    const Modulation<A, P, ALL_AT_ONCE ? KERNEL : 0, RULE> modulation(logits, place.points);
    F grad_m;
    A along = 0;  // sum_k m_k dL/dm_k, what a softmax takes away from every dL/dm_k
    ROLLED
    for (int first = 0; first < place.points; first += P) {
        const int count = min(P, place.points - first);
        F x_position, y_position;
        sampling_points(layout, place, offset, first, x_position, y_position);
        const Axis<A, P> x(x_position, A(layout.width)), y(y_position, A(layout.height));
        const Wholes<P> left(x.before, step), above(y.before, 1);
        F m;
        if (IN_ONE_LOOP) m = modulation(logits, first, place.points);
        CornerDots<A, V, P> dots;  // dL/dy . x at each corner
        for (int channel = place.lane * V; place.exists && channel < place.channels; channel += LANES * V) {
            const C grad = C::load(grad_output + place.at_output + channel);
            const T* picture = input + place.at_input + channel;
            A* target = grad_input + place.at_input + channel;
            const CornerWeights<A, P> weight(m, x, y);
            UNROLL
            for (int k = 0; k < count; ++k) {
                const T* upper = picture + static_cast<long long>(above[k]) * line + left[k];
                const T* lower = upper + next_line;
                dots.add(k, grad, C::load(upper), C::load(upper + next), C::load(lower), C::load(lower + next));
                A* at = target + static_cast<long long>(above[k]) * line + left[k];
                if (IN_ONE_LOOP) scatter(grad, at, next, next_line, weight, k);
            }
        }
        if (!IN_ONE_LOOP) m = modulation(logits, first, place.points);
        F d_ul, d_ur, d_ll, d_lr;  // from upper left to lower right
        dots.read(d_ul, d_ur, d_ll, d_lr);
        const F on_top = x.share_before() * d_ul + x.share_after() * d_ur;
        const F at_bottom = x.share_before() * d_ll + x.share_after() * d_lr;
        const F slope_x = y.share_before() * (x.slope_before() * d_ul + x.slope_after() * d_ur)
                        + y.share_after() * (x.slope_before() * d_ll + x.slope_after() * d_lr);
        const F slope_y = y.slope_before() * on_top + y.slope_after() * at_bottom;
        const F stretch = m * F(static_cast<A>(layout.offset_scale));
        const F grad_x = over_lanes<LANES>(stretch * slope_x), grad_y = over_lanes<LANES>(stretch * slope_y);
        grad_m = over_lanes<LANES>(y.share_before() * on_top + y.share_after() * at_bottom);
        along += (m * grad_m).sum();
        watch("dots", first, m[0], d_ul[0], d_ur[0], d_ll[0], d_lr[0], grad_x[0], grad_y[0], grad_m[0], along);
        if (writes) {
            F::store_pairs(grad_offset + 2 * (place.at_points + first), count, grad_x, grad_y);
            if (RULE == SIGMOID) (m * (F(1) - m) * grad_m).store_some(grad_logits + first, count);
            else if (RULE == NONE || !ALL_AT_ONCE) grad_m.store_some(grad_logits + first, count);
        }
        if (IN_ONE_LOOP) continue;
        for (int channel = place.lane * V; place.exists && channel < place.channels; channel += LANES * V) {
            const C grad = C::load(grad_output + place.at_output + channel);
            A* target = grad_input + place.at_input + channel;
            const CornerWeights<A, P> weight(m, x, y);
            UNROLL
            for (int k = 0; k < count; ++k) {
                A* at = target + static_cast<long long>(above[k]) * line + left[k];
                watch("add", first + k, at, at + next, at + next_line, at + next_line + next, weight.upper_left[k],
                      weight.upper_right[k], weight.lower_left[k], weight.lower_right[k], grad[0]);
                scatter(grad, at, next, next_line, weight, k);
            }
        }
    }
    if (RULE != SOFTMAX || !writes) return;
    ROLLED
    for (int first = 0; first < place.points; first += P) {
        const F m = modulation(logits, first, place.points);
        if (!ALL_AT_ONCE) grad_m = F::load_some(grad_logits + first, place.points - first, A(0));
        (m * (grad_m - F(along))).store_some(grad_logits + first, place.points - first);
    }
}
