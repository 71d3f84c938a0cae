// Stretches the square mask of each object over its box and cuts it at a threshold (Mask R-CNN, section 3):
//
//     pixel(y, x) = mask((y + 1/2 - y1) / (y2 - y1) * size - 1/2, ... x likewise) >= threshold
//
// bilinear, with zeros round the mask. One thread decides pixels of one row, P side by side.
//
// Threads and blocks: x over columns, y over rows, z over masks. Only the box and a rim of one pixel are looked
// at; the picture must start as zeros.
#include "bilinear.cuh"

struct Canvas { float threshold; int size, height, width; };  // of the mask, of the picture

// Where the centres of some pixels lie in the mask. A box of no extent answers with the middle everywhere.
template <int P> __device__ inline Floats<float, P> in_mask(Floats<float, P> pixel, float from, float to, int size) {
    using F = Floats<float, P>;
    F place = (pixel + F(0.5f) - F(from)) / F(to - from) * F(2) - F(1);  // from -1 to 1, edge to edge
    place = where_equal(place - place, F(0), place);  // what is infinite or not a number is 0
    return (place + F(1)) * F(size * 0.5f) - F(0.5f);
}

__global__ void paste_masks(const float* __restrict__ scores, const float* __restrict__ boxes,
                            bool* __restrict__ picture, Canvas canvas) {
    constexpr int P = POINTS_AT_ONCE<float>;
    using F = Floats<float, P>;
    const int row = blockIdx.y * blockDim.y + threadIdx.y, size = canvas.size;
    const float x1 = boxes[4 * blockIdx.z], y1 = boxes[4 * blockIdx.z + 1];
    const float x2 = boxes[4 * blockIdx.z + 2], y2 = boxes[4 * blockIdx.z + 3];
    const bool looked_at = row < canvas.height && row >= floorf(y1) - 1 && row < ceilf(y2) + 1;
    if (!looked_at) return;
    const int left = max(0.0f, floorf(x1) - 1), right = min(static_cast<float>(canvas.width), ceilf(x2) + 1);
    const Axis<float, 1> y(in_mask(Floats<float, 1>(row), y1, y2, size), size);
    const float* above = scores + (static_cast<long long>(blockIdx.z) * size + static_cast<int>(y.before[0])) * size;
    const float* below = scores + (static_cast<long long>(blockIdx.z) * size + static_cast<int>(y.after()[0])) * size;
    bool* line = picture + (static_cast<long long>(blockIdx.z) * canvas.height + row) * canvas.width;
    const int step = P * gridDim.x * blockDim.x;
    for (int column = left + P * (blockIdx.x * blockDim.x + threadIdx.x); column < right; column += step) {
        const Axis<float, P> x(in_mask(F::counting_from(0) + F(column), x1, x2, size), size);
        const Wholes<P> before(x.before, 1), after(x.after(), 1);
        const Lanes<float, P> share_before(x.share_before()), share_after(x.share_after());
        for (int k = 0; k < P && column + k < right; ++k) {
            const float value = above[before[k]] * (y.share_before()[0] * share_before[k])
                              + above[after[k]] * (y.share_before()[0] * share_after[k])
                              + below[before[k]] * (y.share_after()[0] * share_before[k])
                              + below[after[k]] * (y.share_after()[0] * share_after[k]);
            line[column + k] = value >= canvas.threshold;
        }
    }
}
