// The 16-bit floating-point formats of a weights file, widened to float32 without error.
#pragma once

#include <bit>
#include <cstdint>

namespace vlt {

// bfloat16 is the upper half of a float32.
inline float bfloat16_to_float32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// IEEE binary16: 1 sign, 5 exponent and 10 fraction bits; its exponents are float32's less
// 127 - 15 = 112. No float32 subnormal occurs on the way, so that a thread which flushes them to
// zero gets the same weights.
inline float float16_to_float32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31;
  const uint32_t fraction = bits & 0x3FF;
  if (exponent == 0) {  // zero, or a subnormal: a multiple of 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide_exponent = exponent == 31 ? 255 : exponent + 112;  // 31: infinity or NaN
  return std::bit_cast<float>(sign | wide_exponent << 23 | fraction << 13);
}

}  // namespace vlt
