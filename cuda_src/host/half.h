// Half types for host compilers: two bytes in memory, float in between. Rounding is to nearest, ties to even.
#pragma once
#include <stdint.h>
#include <string.h>

struct __half {
    _Float16 number;
    __half() = default;
    __half(float value) : number(static_cast<_Float16>(value)) {}
    operator float() const { return number; }
};
struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float value) {
        uint32_t wide;
        memcpy(&wide, &value, 4);
        bits = value != value ? 0x7FFF : (wide + 0x7FFF + (wide >> 16 & 1)) >> 16;
    }
    operator float() const {
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        float value;
        memcpy(&value, &wide, 4);
        return value;
    }
};
