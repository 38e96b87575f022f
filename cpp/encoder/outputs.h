// What a run can be asked for: which rows and columns each output has and which head makes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/backend.h"
#include "model/architecture.h"

namespace vlt {

// Values index Outputs.
enum class OutputKind { kHidden, kEmbedding, kLogits, kTokenLogits, kVocabulary, kSparse };
inline constexpr std::array kOutputKinds = {OutputKind::kHidden,     OutputKind::kEmbedding,
                                            OutputKind::kLogits,     OutputKind::kTokenLogits,
                                            OutputKind::kVocabulary, OutputKind::kSparse};

// Those that a recorded forward pass can give: the others' rows are as long as a vocabulary.
inline constexpr std::array kRecordedOutputs = {OutputKind::kHidden, OutputKind::kEmbedding,
                                                OutputKind::kLogits, OutputKind::kTokenLogits};

inline RowsOf rows_of(OutputKind kind) {
  switch (kind) {
    case OutputKind::kHidden:
    case OutputKind::kTokenLogits:
      return RowsOf::kTokens;
    case OutputKind::kVocabulary:
      return RowsOf::kChosen;
    default:
      return RowsOf::kSequences;
  }
}

// A number for each kind of row: how many there are, or where they begin.
struct RowCounts {
  int64_t tokens = 0;
  int64_t sequences = 0;
  int64_t chosen = 0;

  int64_t of(RowsOf rows) const {
    return rows == RowsOf::kTokens ? tokens : rows == RowsOf::kSequences ? sequences : chosen;
  }
};

// None for the states themselves.
inline std::optional<HeadKind> head_of(OutputKind kind) {
  switch (kind) {
    case OutputKind::kHidden:
      return std::nullopt;
    case OutputKind::kEmbedding:
      return HeadKind::kEmbedding;
    case OutputKind::kLogits:
      return HeadKind::kSequence;
    case OutputKind::kTokenLogits:
      return HeadKind::kToken;
    default:
      return HeadKind::kVocabulary;
  }
}

inline int64_t columns_of(OutputKind kind, const Architecture& architecture) {
  const std::optional<HeadKind> head = head_of(kind);
  return head ? architecture.head(*head).output_size : architecture.hidden_size;
}

// Where a result goes; null data for what is not wanted.
struct OutputArray {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  bool on_device = false;
};

struct Outputs {
  std::array<OutputArray, kOutputKinds.size()> arrays;

  OutputArray& operator[](OutputKind kind) { return arrays[static_cast<size_t>(kind)]; }
  const OutputArray& operator[](OutputKind kind) const { return arrays[static_cast<size_t>(kind)]; }
  bool wants(OutputKind kind) const { return (*this)[kind].data != nullptr; }

  // Whether all that is wanted looks at one token a sequence only, and something is.
  bool needs_first_tokens_only(const Architecture& architecture) const {
    bool any = false;
    for (const OutputKind kind : kOutputKinds) {
      if (!wants(kind)) continue;
      const std::optional<HeadKind> head = head_of(kind);
      if (!head || !architecture.head(*head).needs_first_tokens_only()) return false;
      any = true;
    }
    return any;
  }
};

}  // namespace vlt
