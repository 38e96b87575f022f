// What a machine can do at most: multiply-adds in registers, and bytes read from memory.
#pragma once

#include <cstdint>
#include <string>

namespace vlt::bench {

// Operations (a multiply-add is two) that `threads` threads do a second on an instruction set, by the
// name a backend has, with weights held in "float32", "bfloat16" or "int8"; 0 where no loop is
// written for it. Where weights are widened, those of float32 count.
double peak_rate(const std::string& instruction_set, const std::string& weights, int threads);

// Bytes that `threads` threads read a second from `size` bytes each, one behind the other.
double read_rate(int64_t size, int threads);

}  // namespace vlt::bench
