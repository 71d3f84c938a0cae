// What Python checks its arguments against: of every parameter the kind ('p'ointer, 'i'nteger, 'f'loat, 's'truct)
// and the size.
#pragma once
#include <type_traits>

template <typename... P> void describe_parameters(char* kinds, int* sizes) {
    int at = 0;
    ((kinds[at] = std::is_pointer_v<P> ? 'p' : std::is_integral_v<P> ? 'i' : std::is_floating_point_v<P> ? 'f' : 's',
      sizes[at++] = sizeof(P)), ...);
    kinds[at] = 0;
}
