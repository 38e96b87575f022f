// The table of tensors in docs/WEIGHTS_FILE.md, written out for one architecture and compared with
// the tensors a file holds.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/architecture.h"
#include "model/file_error.h"
#include "model/metadata_reader.h"

namespace vlt {
namespace {

using Shape = std::vector<int64_t>;
using ShapeTable = std::map<std::string, Shape, std::less<>>;

void add_linear(const std::string& name, int64_t outputs, int64_t inputs, ShapeTable& table) {
  table[name + ".weight"] = {outputs, inputs};
  table[name + ".bias"] = {outputs};
}

void add_norm(const std::string& name, int64_t size, ShapeTable& table) {
  table[name + ".weight"] = {size};
  table[name + ".bias"] = {size};
}

void add_embeddings(const Architecture& a, ShapeTable& table) {
  table["embeddings.word"] = {a.vocab_size, a.embedding_size};
  if (a.has_positions) table["embeddings.position"] = {a.num_positions, a.embedding_size};
  if (a.num_token_types > 0) {
    table["embeddings.token_type"] = {a.num_token_types, a.embedding_size};
  }
  add_norm("embeddings.norm", a.embedding_size, table);
  if (a.projects_embeddings)
    add_linear("embeddings.projection", a.hidden_size, a.embedding_size, table);
  if (a.convolution > 0) {
    add_linear("convolution", a.hidden_size, int64_t{a.convolution} * a.hidden_size, table);
    add_norm("convolution.norm", a.hidden_size, table);
  }
  if (a.distance_bias)
    table["attention.distance_bias"] = {a.num_heads, int64_t{2} * a.max_length() - 1};
}

// One that may be stored as int8, and then has scales and may have factors of its inputs.
void add_layer_linear(const std::string& name, int64_t outputs, int64_t inputs,
                      const WeightsFile& file, ShapeTable& table) {
  add_linear(name, outputs, inputs, table);
  const TensorEntry* weight = file.find(name + ".weight");
  if (weight == nullptr || weight->dtype != StoredType::kI8) return;
  table[name + ".scales"] = {outputs};
  if (file.find(name + ".input_factors") != nullptr) table[name + ".input_factors"] = {inputs};
}

void add_layer(const Architecture& a, int32_t layer, const WeightsFile& file, ShapeTable& table) {
  const std::string prefix = "layers." + std::to_string(layer) + ".";
  const int64_t heads_size = int64_t{a.num_heads} * a.head_size;
  add_layer_linear(prefix + "attention.qkv", 3 * heads_size, a.hidden_size, file, table);
  if (a.relative_keys)
    table[prefix + "attention.relative_keys"] = {a.num_relative_rows, heads_size};
  if (a.relative_queries)
    table[prefix + "attention.relative_queries"] = {a.num_relative_rows, heads_size};
  add_layer_linear(prefix + "attention.output", a.hidden_size, heads_size, file, table);
  add_norm(prefix + "attention.norm", a.hidden_size, table);
  add_layer_linear(prefix + "ffn.up", a.intermediate_size, a.hidden_size, file, table);
  add_layer_linear(prefix + "ffn.down", a.hidden_size, a.intermediate_size, file, table);
  add_norm(prefix + "ffn.norm", a.hidden_size, table);
}

// What may be absent joins the table only where the file has it.
void add_head(HeadKind kind, const Head& head, const WeightsFile& file, ShapeTable& table) {
  const auto add_if_there = [&](const std::string& name, Shape shape) {
    if (file.find(name) != nullptr) table[name] = std::move(shape);
  };
  for (const HeadStep& step : head.steps) {
    if (step.kind == HeadStep::Kind::kDense) {
      const std::string dense = step_prefix(kind, "dense", step.index);
      table[dense + ".weight"] = {step.output_size, step.input_size};
      add_if_there(dense + ".bias", {step.output_size});
    } else if (step.kind == HeadStep::Kind::kNorm) {
      add_norm(step_prefix(kind, "norm", step.index), step.input_size, table);
    } else if (step.kind == HeadStep::Kind::kDecoder) {
      add_if_there("vocabulary_head.decoder.weight", {step.output_size, step.input_size});
      add_if_there("vocabulary_head.decoder.bias", {step.output_size});
    }
  }
}

// Without a decoder of its own, a vocabulary head's rows meet the word embeddings.
void check_tied_decoder(const Architecture& a, const WeightsFile& file) {
  const Head& head = a.head(HeadKind::kVocabulary);
  if (head.steps.empty() || file.find("vocabulary_head.decoder.weight") != nullptr) return;
  const int64_t size = head.steps.back().input_size;
  if (size != a.embedding_size)
    refuse_file(file.name(),
                "lacks the tensor 'vocabulary_head.decoder.weight'; embeddings.word "
                "cannot take its place, as it has " +
                    std::to_string(a.embedding_size) + " columns and rows of " +
                    std::to_string(size) + " come before the decoder");
}

ShapeTable expected_shapes(const Architecture& a, const WeightsFile& file) {
  ShapeTable table;
  add_embeddings(a, table);
  for (int32_t layer = 0; layer < a.num_stored_layers; ++layer) add_layer(a, layer, file, table);
  for (const HeadKind kind : kHeadKinds) add_head(kind, a.head(kind), file, table);
  return table;
}

// "'a', 'b' and 3 more"
std::string list_some(const std::vector<std::string>& names) {
  constexpr size_t kMaxListed = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMaxListed); ++i) {
    text += (i > 0 ? ", " : "") + quoted(names[i]);
  }
  if (names.size() <= kMaxListed) return text;
  return text + " and " + std::to_string(names.size() - kMaxListed) + " more";
}

void check_none_missing(const WeightsFile& file, const ShapeTable& table) {
  std::vector<std::string> missing;
  for (const auto& [name, shape] : table) {
    if (file.find(name) == nullptr) missing.push_back(name);
  }
  if (!missing.empty()) refuse_file(file.name(), "lacks the tensors " + list_some(missing));
}

// Byte tensors may have any length, but no other shape or dtype.
bool is_byte_tensor(const TensorEntry& tensor) {
  if (tensor.name == "tokenizer.json") return true;
  return is_padding(tensor) && parse_decimal(std::string_view(tensor.name).substr(5)) >= 0;
}

void check_none_unexpected(const WeightsFile& file, const ShapeTable& table) {
  std::vector<std::string> unexpected;
  for (const TensorEntry& tensor : file.tensors()) {
    if (!is_byte_tensor(tensor) && table.find(tensor.name) == table.end()) {
      unexpected.push_back(tensor.name);
    }
  }
  if (!unexpected.empty()) {
    refuse_file(file.name(), "holds the tensors " + list_some(unexpected) +
                                 ", which its metadata does not ask for");
  }
}

[[noreturn]] void refuse_tensor(const WeightsFile& file, const TensorEntry& tensor,
                                const std::string& expected) {
  refuse_file(file.name(), "tensor " + quoted(tensor.name) + " is " + dtype_name(tensor.dtype) +
                               " of shape " + shape_text(tensor.shape) + ", expected " + expected);
}

// A weight of a layer's linear, by its name; norms have a weight too.
bool may_be_int8(std::string_view name) {
  return name.starts_with("layers.") && name.ends_with(".weight") &&
         name.find("norm.") == std::string_view::npos;
}

void check_tensor(const WeightsFile& file, const TensorEntry& tensor, const ShapeTable& table) {
  if (is_byte_tensor(tensor)) {
    if (tensor.dtype != StoredType::kU8 || tensor.shape.size() != 1) {
      refuse_tensor(file, tensor, "U8 of shape [bytes]");
    }
    return;
  }
  const Shape& shape = table.find(tensor.name)->second;
  const bool is_int8 = tensor.dtype == StoredType::kI8 && may_be_int8(tensor.name);
  if ((!is_float(tensor.dtype) && !is_int8) || tensor.shape != shape) {
    refuse_tensor(file, tensor,
                  (may_be_int8(tensor.name) ? "F32, F16, BF16 or I8 of shape "
                                            : "F32, F16 or BF16 of shape ") +
                      shape_text(shape));
  }
}

}  // namespace

void check_tensors(const Architecture& architecture, const WeightsFile& file) {
  const ShapeTable table = expected_shapes(architecture, file);
  check_none_missing(file, table);
  check_tied_decoder(architecture, file);
  check_none_unexpected(file, table);
  for (const TensorEntry& tensor : file.tensors()) check_tensor(file, tensor, table);
}

}  // namespace vlt
