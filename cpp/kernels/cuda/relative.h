// How prepare_relative() lays out what RelativeWeights point to.
//
//   bias                  float32 [A, distance_stride]
//   row                   int32 [distance_stride], ascending from 0 by at most 1 from entry to entry
//   key_rows, query_rows  compute type [A, R, row_stride], without rows that no distance has
//
// Tiles look up pairs beyond a sequence's end too, whose scores are then masked. So what is indexed
// by distance is padded at both ends, with its first and last value.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace vlt::cuda {

constexpr int64_t kDistancePadding = 64;  // a tile has no more queries, nor more keys
constexpr float kLog2E = 1.4426950408889634f;

constexpr int64_t distance_stride(int64_t num_distances) {
  return num_distances + 2 * kDistancePadding;
}
// Where the entry of distance 0 is; the others lie around it.
constexpr int64_t distance_zero(int64_t num_distances) {
  return num_distances / 2 + kDistancePadding;
}
// Rows start on 16 bytes in every type; columns from D on are zeros.
constexpr int64_t relative_row_stride(int64_t head_size) { return (head_size + 7) / 8 * 8; }

// On the host, all in float32; empty what there is none of.
struct RelativeTables {
  std::vector<float> bias;
  std::vector<int32_t> row;
  std::vector<float> key_rows;
  std::vector<float> query_rows;
  int64_t num_rows = 0;
};

RelativeTables lay_out(const RelativeTensors& tensors);

}  // namespace vlt::cuda
