// relative: what disentangled attention adds to a head's products of queries and keys,
//   q_i · key_rows[r] + query_rows[r] · k_j  with r = row[j - i].
//
// Mapping    Both terms are products by the micro-kernel with rows packed when the model is loaded:
//            the second for all keys, once a head; the first strip by strip. Of all panels a strip
//            of 14 queries or keys multiplies those of its own distances only: L + 13 of 2·L - 1.
//            From one distance to the next the row grows by 0 or 1, so a vector of distances has
//            its values in one vector of the product, which `pick` spreads. Queries run backwards
//            there, so that vectors of the second term are made query by query and transposed.
// Roofline   At most 4·L·(L + 46)·D flops beside the 4·L²·D of attention, and about one instruction
//            for each of the L² scores and terms. Memory is O(L · R).
// Numerics   A term is one sum over D in the micro-kernel's order. A score is product + first term
//            + second term, so its bits do not depend on how queries are cut into strips.
// Reference  relative_score in reference/reference_backend.cpp
#pragma once

#include "kernels/cpu/micro_gemm.h"

namespace vlt::VLT_KERNELS {

// Room for the rows that 2·L - 1 distances have, beginning inside a panel, and for a vector more.
inline int64_t relative_stride(int64_t length, int64_t num_rows) {
  const int64_t rows = 2 * length - 1 < num_rows ? 2 * length - 1 : num_rows;
  const int64_t most = num_panels(num_rows), spanned = num_panels(rows - 1) + 1;
  return (spanned < most ? spanned : most) * kPanelWidth + 16;
}

inline int64_t relative_scratch(int64_t length, int64_t num_rows) {
  return num_rows > 0 ? (length + kStripRows) * relative_stride(length, num_rows) : 0;
}

// The terms of one head, if it has any; column r - first_row of a product is of row r.
class RelativeTerms {
 public:
  RelativeTerms(const AttentionHead& head, float* scratch)
      : h_(head),
        row_(head.relative.row),
        stride_(relative_stride(head.length, head.relative.num_rows)),
        first_row_(row_ ? row_[1 - head.row_end] / kPanelWidth * kPanelWidth : 0),
        of_keys_(scratch),
        of_queries_(scratch + head.length * stride_) {
    if (!h_.relative.query_rows) return;
    for (int64_t begin = 0; begin < h_.length; begin += kStripRows) {
      const int64_t end = begin + kStripRows < h_.length ? begin + kStripRows : h_.length;
      multiply(h_.key + begin * h_.stride, end - begin, h_.relative.query_rows,
               begin - (h_.row_end - 1), end - 1 - h_.row_begin, of_keys_ + begin * stride_);
    }
  }

  // Adds to scores [rows, L] of the queries from `begin` on; rows are whole vectors long.
  void add(int64_t begin, int64_t rows, float* scores, int64_t score_stride) const {
    for (int64_t i = 0; i < rows; i += kStripRows)
      add_strip(begin + i, rows - i < kStripRows ? rows - i : kStripRows, scores + i * score_stride,
                score_stride);
  }

 private:
  void add_strip(int64_t begin, int64_t rows, float* scores, int64_t score_stride) const {
    if (h_.relative.key_rows) {
      multiply(h_.query + begin * h_.stride, rows, h_.relative.key_rows, 1 - (begin + rows),
               h_.length - 1 - begin, of_queries_);
      for (int64_t i = 0; i < rows; ++i)
        add_of_query(of_queries_ + i * stride_, begin + i, scores + i * score_stride);
    }
    if (h_.relative.query_rows)
      for (int64_t i = 0; i < rows; i += Vec::kLanes)
        add_of_keys(begin + i, rows - i < Vec::kLanes ? rows - i : Vec::kLanes,
                    scores + i * score_stride, score_stride);
  }

  // out [count, stride] = in [count, D] · the rows of distances [first, last], a whole panel at least
  void multiply(const float* in, int64_t count, const float* panels, int64_t first, int64_t last,
                float* out) const {
    const int64_t begin = row_[first] / kPanelWidth, end = row_[last] / kPanelWidth + 1;
    Tile product{};
    product.in = in;
    product.in_stride = h_.stride;
    product.inputs = h_.head_size;
    product.panel_stride = h_.head_size * kPanelWidth;
    product.panels = panels + begin * product.panel_stride;
    product.out = out + (begin * kPanelWidth - first_row_);
    product.out_stride = stride_;
    run_panels(count, end - begin, product);
  }

  void add_of_query(const float* of_rows, int64_t query, float* scores) const {
    for (int64_t j = 0; j < h_.length; j += Vec::kLanes) {
      const int32_t* row = row_ + (j - query);
      store(scores + j, load(scores + j) + pick(load(of_rows + (row[0] - first_row_)), row));
    }
  }

  // For `queries` rows of scores, at most a vector.
  void add_of_keys(int64_t begin, int64_t queries, float* scores, int64_t score_stride) const {
    constexpr int64_t kLanes = Vec::kLanes;
    Vec by_key[kLanes], by_query[kLanes];  // by_query[c] is of the last query but c
    for (int64_t j = 0; j < h_.length; j += kLanes) {
      const int32_t* row = row_ + (j - (begin + queries - 1));
      const float* of_rows = of_keys_ + j * stride_;
      for (int64_t c = 0; c < kLanes; ++c, ++row, of_rows += stride_)
        by_key[c] = j + c < h_.length ? pick(load(of_rows + (row[0] - first_row_)), row) : zero();
      transpose(by_key, by_query);
      for (int64_t i = 0; i < queries; ++i) {
        float* out = scores + i * score_stride + j;
        store(out, load(out) + by_query[queries - 1 - i]);
      }
    }
  }

  const AttentionHead& h_;
  const int32_t* const row_;
  const int64_t stride_;
  const int64_t first_row_;  // of the first panel that any pair has
  float* const of_keys_;     // [L, stride]: query_rows[r] · k_j
  float* const of_queries_;  // [strip, stride]: q_i · key_rows[r]
};

}  // namespace vlt::VLT_KERNELS
