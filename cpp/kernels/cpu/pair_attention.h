// attention by AVX-512-BF16: the products of attention_bfloat16.h by the micro-kernel, on pairs.
#pragma once

#include "kernels/cpu/attention_bfloat16.h"
#include "kernels/cpu/dot_products.h"

namespace vlt::VLT_KERNELS {

class PairProducts : public Bfloat16Operands {
 public:
  static constexpr int64_t kRows = kStripRows;

  static int64_t scratch(int64_t length, int64_t head_size) {
    return Bfloat16Operands::scratch(length, head_size) + kRows * query_stride(head_size);
  }

  PairProducts(const AttentionHead& head, float* scratch)
      : Bfloat16Operands(head, scratch),
        queries_(scratch + Bfloat16Operands::scratch(head.length, head.head_size)) {}

  void score(int64_t begin, int64_t rows, float* scores, int64_t stride) const {
    round_queries(begin, rows, queries_, query_stride(h_.head_size));
    PairTile product = tile(queries_, query_stride(h_.head_size), h_.head_size);
    product.panels = pairs(keys_);
    product.panel_stride = key_stride_;
    product.out = scores;
    product.out_stride = stride;
    run_panels(rows, num_panels(h_.length), product);
  }

  void mix(int64_t begin, int64_t rows, const float* probabilities, int64_t stride) const {
    PairTile product = tile(probabilities, stride, h_.length);
    product.panels = pairs(values_);
    product.panel_stride = value_stride_;
    product.out = h_.out + begin * h_.out_stride;
    product.out_stride = h_.out_stride;
    run_columns(rows, h_.head_size, product);
  }

 private:
  using PairTile = TileOf<uint32_t, uint32_t>;

  static int64_t query_stride(int64_t head_size) { return whole_pairs(head_size) + 16; }
  static const uint32_t* pairs(const float* p) { return reinterpret_cast<const uint32_t*>(p); }
  static PairTile tile(const float* in, int64_t stride, int64_t inputs) {
    PairTile product{};
    product.in = pairs(in);
    product.in_stride = stride;
    product.inputs = (inputs + 1) / 2;
    return product;
  }

  float* const queries_;
};

}  // namespace vlt::VLT_KERNELS
