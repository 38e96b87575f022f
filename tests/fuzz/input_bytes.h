// Reads numbers from a fuzzer's bytes; behind their end all are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

class InputBytes {
 public:
  InputBytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  template <typename T>
  T take() {
    T value{};
    const size_t count = left_ < sizeof(T) ? left_ : sizeof(T);
    std::memcpy(&value, data_, count);
    data_ += count;
    left_ -= count;
    return value;
  }

  // A small number, mostly one of 0 … most; one in eight is anything at all.
  int32_t around(int32_t most) {
    const auto draw = take<uint8_t>();
    if (draw % 8 == 7) return take<int32_t>();
    return draw / 8 % (most + 1);
  }

  // Exactly as long as promised, so that the sanitizer sees who reads on.
  std::vector<int32_t> array(int64_t size, int32_t most) {
    std::vector<int32_t> values(size > 0 ? static_cast<size_t>(size) : 0);
    for (int32_t& value : values) value = around(most);
    values.shrink_to_fit();
    return values;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};
