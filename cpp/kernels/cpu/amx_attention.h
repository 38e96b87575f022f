// attention by AMX: the products of attention_bfloat16.h in tiles, 32 queries at a time.
//
// Rows of queries and probabilities behind the last are whatever lies there; so are their results,
// which nobody reads.
#pragma once

#include "kernels/cpu/amx.h"
#include "kernels/cpu/attention_bfloat16.h"

namespace vlt::VLT_KERNELS {

class TileProducts : public Bfloat16Operands {
 public:
  static constexpr int64_t kRows = 2 * kTileRows;

  static int64_t scratch(int64_t length, int64_t head_size) {
    return Bfloat16Operands::scratch(length, head_size) + kRows * query_stride(head_size) +
           kRows * kPanelWidth;
  }

  TileProducts(const AttentionHead& head, float* scratch)
      : Bfloat16Operands(head, scratch),
        queries_(scratch + Bfloat16Operands::scratch(head.length, head.head_size)),
        mixed_(queries_ + kRows * query_stride(head.head_size)) {
    configure_tiles();
  }
  ~TileProducts() { _tile_release(); }
  TileProducts(const TileProducts&) = delete;
  TileProducts& operator=(const TileProducts&) = delete;

  void score(int64_t begin, int64_t rows, float* scores, int64_t stride) const {
    const int64_t queries = query_stride(h_.head_size);
    round_queries(begin, rows, queries_, queries);
    keep_stores(queries_);
    for (int64_t panel = 0; panel < num_panels(h_.length); ++panel)
      multiply_2x2<Bfloat16Tiles>(bytes(queries_), queries * kPairBytes,
                                  bytes(keys_ + panel * key_stride_), steps(h_.head_size),
                                  scores + panel * kPanelWidth, stride);
    keep_stores(scores);
  }

  void mix(int64_t begin, int64_t rows, const float* probabilities, int64_t stride) const {
    keep_stores(probabilities);
    for (int64_t column = 0; column < h_.head_size; column += kPanelWidth) {
      multiply_2x2<Bfloat16Tiles>(bytes(probabilities), stride * kPairBytes,
                                  bytes(values_ + column / kPanelWidth * value_stride_),
                                  steps(h_.length), mixed_, kPanelWidth);
      keep_stores(mixed_);
      const int64_t left = h_.head_size - column, cols = left < kPanelWidth ? left : kPanelWidth;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; j += Vec::kLanes)
          store_lanes(h_.out + (begin + i) * h_.out_stride + column + j,
                      load(mixed_ + i * kPanelWidth + j),
                      cols - j < Vec::kLanes ? cols - j : Vec::kLanes);
    }
  }

 private:
  static constexpr int64_t kPairBytes = 4;

  static int64_t query_stride(int64_t head_size) { return whole_pairs(head_size) + 16; }
  static int64_t steps(int64_t inputs) { return whole_pairs(inputs) / kPairsAtOnce; }
  static const uint8_t* bytes(const float* p) { return reinterpret_cast<const uint8_t*>(p); }

  float* const queries_;
  float* const mixed_;  // [kRows, kPanelWidth]
};

}  // namespace vlt::VLT_KERNELS
