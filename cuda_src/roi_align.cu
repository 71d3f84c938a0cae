// RoIAlign over a feature pyramid: every bin of a box is the mean of bilinear samples spread evenly over it.
//
//     y(bin) = mean over samples s of  sum over cells q of  share(s_y, q_y) share(s_x, q_x) x(q)
//
// (He et al. 2017, "Mask R-CNN", section 3.) The samples of a bin are a grid, so the sum comes apart: a row of
// cells weighs the sum of its shares over the samples' y, a column the sum over their x, and a cell the product of
// the two. So a bin reads each of its cells once, however many samples lie round it.
//
// One thread holds V channels of one row of bins of a roi. T is the element type of maps and output; sums and
// coordinates are in A = Accumulator<T>.
//
// Threads: x runs over channels, V at a time, y over rows of bins, first those of roi 0; blocks: x over what is left
// of the rows, y over what is left of the channels. If these are fewer than the channels, a thread takes turns.
#include "floats.cuh"

// As numpy sees them. Maps are (N, height, width, channels), channels last; `address` is that of the first number.
struct Level { long long address; double scale; int height, width; };
struct Pyramid { Level level0, level1, level2, level3, level4, level5, level6, level7; };
struct Grid { int rois, bins, channels, sampling_ratio; };

constexpr int CELLS = 8;  // whose weights are worked out at once: all rows, or columns, of an ordinary bin

// One side of a roi, in cells of its level, and the samples of its bins.
template <typename A> struct Side {
    A start, size, step;  // where the first bin starts, how long a bin is, how far it is to the next sample
    int samples, length;  // of a bin, of the map

    __device__ Side(A from, A to, A scale, int length, const Grid& grid) : length(length) {
        start = from * scale - A(0.5);  // the centre of cell i lies at i + 0.5
        size = (to * scale - A(0.5) - start) / grid.bins;
        const A wanted = grid.sampling_ratio > 0 ? A(grid.sampling_ratio) : ceil(size);
        samples = wanted >= 1 ? static_cast<int>(min(wanted, A(1 << 20))) : 0;  // 0 if empty, inverted or NaN
        step = size / max(samples, 1);
    }
    __device__ A sample(int bin, int i) const { return start + bin * size + (i + A(0.5)) * step; }
    __device__ A on_map(A position) const { return position > 0 ? min(position, A(length - 1)) : A(0); }
};

// One bin along one side: the cells that its samples lie between, and what each of them weighs.
template <typename A> struct Bin {
    const Side<A> side;
    const int number, one_end, other_end, first, last;  // the ends change places if the roi is inverted
    const Lanes<A, CELLS> first_weights;

    __device__ Bin(const Side<A>& side, int number)
        : side(side), number(number),
          one_end(static_cast<int>(side.on_map(side.sample(number, 0)))),
          other_end(static_cast<int>(side.on_map(side.sample(number, side.samples - 1)))),
          first(min(one_end, other_end)),
          last(side.samples ? min(max(one_end, other_end) + 1, side.length - 1) : -1),
          first_weights(shares(first)) {}

    // Of the CELLS cells from `cell` on.
    __device__ Lanes<A, CELLS> weights(int cell) const { return cell == first ? first_weights : shares(cell); }
    __device__ Floats<A, CELLS> shares(int cell) const {
        using F = Floats<A, CELLS>;
        const F cells = F::counting_from(0) + F(A(cell));
        F sum(0);
        for (int i = 0; i < side.samples; ++i) {
            const A position = side.sample(number, i);
            if (!(position >= -1 && position <= side.length)) continue;  // half a cell beyond the border counts
            const int before = static_cast<int>(side.on_map(position));
            const A part = side.on_map(position) - before;
            sum = sum + where_equal(cells, F(A(before)), F(1 - part)) + where_equal(cells, F(A(before + 1)), F(part));
        }
        return sum;
    }
};

// From the sum over the samples to their mean. One side after the other, so that a bin that a mask covers half is
// 0.5 exactly: 1/121 is not exact enough for that, 1/11 is.
template <typename A, int V>
__device__ Floats<A, V> mean(Floats<A, V> sum, const Bin<A>& rows, const Bin<A>& columns) {
    return sum * Floats<A, V>(A(1) / max(rows.side.samples, 1)) * Floats<A, V>(A(1) / max(columns.side.samples, 1));
}

// Calls visit(cell, weight) for each cell that the samples of a bin lie between; cells are numbered row by row.
template <typename A, typename Visit>
__device__ void for_each_cell(const Bin<A>& rows, const Bin<A>& columns, Visit visit) {
    for (int left = columns.first; left <= columns.last; left += CELLS) {
        const Lanes<A, CELLS> across = columns.weights(left);
        for (int top = rows.first; top <= rows.last; top += CELLS) {
            const Lanes<A, CELLS> down = rows.weights(top);
#pragma unroll
            for (int r = 0; r < CELLS && top + r <= rows.last; ++r) {
                const long long cell = static_cast<long long>(top + r) * columns.side.length + left;
#pragma unroll
                for (int c = 0; c < CELLS && left + c <= columns.last; ++c) visit(cell + c, down[r] * across[c]);
            }
        }
    }
}

// What a thread works for: a row of bins of a roi and, of the channels, V from `channel` on and every `turn` further.
template <typename A, int V> struct Place {
    long long row, roi, picture, channel, turn;
    bool exists;
    Level level;

    __device__ Place(const A* rois, const long long* levels, const Pyramid& pyramid, const Grid& grid) {
        row = static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y, roi = row / grid.bins;
        channel = static_cast<long long>(blockIdx.y * blockDim.x + threadIdx.x) * V;
        turn = static_cast<long long>(gridDim.y * blockDim.x) * V;
        exists = roi < grid.rois;
        if (!exists) return;
        picture = static_cast<long long>(rois[5 * roi]);
        level = reinterpret_cast<const Level*>(&pyramid)[levels[roi]];
    }
    __device__ Side<A> x(const A* rois, const Grid& grid) const {
        return {rois[5 * roi + 1], rois[5 * roi + 3], A(level.scale), level.width, grid};
    }
    __device__ Side<A> y(const A* rois, const Grid& grid) const {
        return {rois[5 * roi + 2], rois[5 * roi + 4], A(level.scale), level.height, grid};
    }
    // Where the map of the roi's picture begins in its level, and a bin in the output.
    __device__ long long at_map(const Grid& grid) const { return picture * level.height * level.width * grid.channels; }
    __device__ long long at_bin(int x, const Grid& grid) const { return (row * grid.bins + x) * grid.channels; }
};

template <typename T, int V>
__global__ void roi_align_forward(const typename Accumulator<T>::type* __restrict__ rois,
                                  const long long* __restrict__ levels, T* __restrict__ output, Pyramid pyramid,
                                  Grid grid) {
    using A = typename Accumulator<T>::type;
    const Place<A, V> place(rois, levels, pyramid, grid);
    if (!place.exists) return;
    const T* map = reinterpret_cast<const T*>(place.level.address) + place.at_map(grid);
    const Side<A> x = place.x(rois, grid);
    const Bin<A> rows(place.y(rois, grid), place.row % grid.bins);
    for (int bin = 0; bin < grid.bins; ++bin) {
        const Bin<A> columns(x, bin);
        for (long long channel = place.channel; channel < grid.channels; channel += place.turn) {
            Floats<A, V> sum(0);
            for_each_cell(rows, columns, [&](long long cell, A weight) {
                watch("read", cell, weight);
                sum.add(weight, Floats<A, V>::load(map + cell * grid.channels + channel));
            });
            mean(sum, rows, columns).store(output + place.at_bin(bin, grid) + channel);
        }
    }
}

// The same sum the other way round: each cell is given what it gave. Here the levels hold the gradients of the
// maps, in the type of the sums; they are added to, so they must start as zeros.
template <typename T, int V>
__global__ void roi_align_backward(const typename Accumulator<T>::type* __restrict__ rois,
                                   const long long* __restrict__ levels, const T* __restrict__ grad_output,
                                   Pyramid pyramid, Grid grid) {
    using A = typename Accumulator<T>::type;
    const Place<A, V> place(rois, levels, pyramid, grid);
    if (!place.exists) return;
    A* grad_map = reinterpret_cast<A*>(place.level.address) + place.at_map(grid);
    const Side<A> x = place.x(rois, grid);
    const Bin<A> rows(place.y(rois, grid), place.row % grid.bins);
    for (int bin = 0; bin < grid.bins; ++bin) {
        const Bin<A> columns(x, bin);
        for (long long channel = place.channel; channel < grid.channels; channel += place.turn) {
            const T* grad_bin = grad_output + place.at_bin(bin, grid) + channel;
            const Floats<A, V> grad = mean(Floats<A, V>::load(grad_bin), rows, columns);
            for_each_cell(rows, columns, [&](long long cell, A weight) {
                watch("add", cell, weight);
                grad.scaled_add_to(grad_map + cell * grid.channels + channel, weight);
            });
        }
    }
}
