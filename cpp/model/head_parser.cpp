#include "model/head_parser.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "model/file_error.h"
#include "model/metadata_reader.h"
#include "model/name_table.h"

namespace vlt {
namespace {

// Far more than any model has; a step costs time in every run.
constexpr size_t kMaxSteps = 64;

constexpr NameTable<PoolingMode, 6> kPoolingModes = {{
    {"cls", PoolingMode::kCls},
    {"lasttoken", PoolingMode::kLastToken},
    {"max", PoolingMode::kMax},
    {"mean", PoolingMode::kMean},
    {"mean_sqrt_len", PoolingMode::kMeanSqrtLen},
    {"weightedmean", PoolingMode::kWeightedMean},
}};

constexpr NameTable<Activation, 7> kActivations = {{
    {"identity", Activation::kIdentity},
    {"tanh", Activation::kTanh},
    {"relu", Activation::kRelu},
    {"gelu", Activation::kGelu},
    {"gelu_tanh", Activation::kGeluTanh},
    {"silu", Activation::kSilu},
    {"sigmoid", Activation::kSigmoid},
}};

// Cuts off and returns the text up to the separator; the rest keeps what follows it. Without a
// separator the rest is left without data, which tells "a" (none) from "a " (one, empty).
std::string_view take_until(char separator, std::string_view& rest) {
  const size_t end = rest.find(separator);
  const std::string_view head = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return head;
}

class HeadParser {
 public:
  HeadParser(const WeightsFile& file, HeadKind kind, std::string_view text,
             const Architecture& architecture)
      : file_(file),
        kind_(kind),
        text_(text),
        vocab_size_(architecture.vocab_size),
        size_(architecture.hidden_size) {}

  Head parse() {
    std::string_view rest = text_;
    do {
      if (steps_.size() == kMaxSteps) {
        fail("more than " + std::to_string(kMaxSteps) + " steps");
      }
      HeadStep step = parse_step(take_until(' ', rest));
      size_ = step.output_size;
      steps_.push_back(std::move(step));
    } while (rest.data() != nullptr);
    check_end();
    return {std::move(steps_), size_};
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    refuse_file(file_.name(), "its metadata has " + quoted(head_key(kind_)) + " = " +
                                  quoted(text_) + ": " + what);
  }

  bool pools() const { return kind_ == HeadKind::kEmbedding || kind_ == HeadKind::kSequence; }

  HeadStep parse_step(std::string_view text) {
    HeadStep step;
    step.input_size = size_;
    step.output_size = size_;
    const bool is_pool = text.starts_with("pool:");
    if (pools() && is_pool != steps_.empty()) {
      fail(is_pool ? "pool may only be the first step"
                   : "found " + quoted(text) + ", expected pool:MODE as the first step");
    }
    if (!steps_.empty() && steps_.back().kind == HeadStep::Kind::kDecoder) {
      fail("found " + quoted(text) + " behind decoder, which is the last step");
    }
    if (is_pool && pools()) {
      parse_pool(text.substr(5), step);
    } else if (text.starts_with("dense:")) {
      parse_dense(text.substr(6), step);
    } else if (text.starts_with("norm:") && kind_ == HeadKind::kVocabulary) {
      step.kind = HeadStep::Kind::kNorm;
      step.index = parse_index("norm", text.substr(5), num_norms_);
    } else if (text == "decoder" && kind_ == HeadKind::kVocabulary) {
      step.kind = HeadStep::Kind::kDecoder;
      step.output_size = vocab_size_;
    } else if (text != "normalize" || kind_ != HeadKind::kEmbedding) {
      fail("found the step " + quoted(text) + ", expected " + expected_steps());
    }
    return step;
  }

  std::string expected_steps() const {
    switch (kind_) {
      case HeadKind::kEmbedding:
        return "dense:N:ACTIVATION or normalize";
      case HeadKind::kVocabulary:
        return "dense:N:ACTIVATION, norm:N or decoder";
      default:
        return "dense:N:ACTIVATION";
    }
  }

  // What callers get is what the last step of the kind makes.
  void check_end() const {
    const HeadStep::Kind last = steps_.back().kind;
    if (kind_ == HeadKind::kSequence && last != HeadStep::Kind::kDense) {
      fail("expected a dense step at its end");
    }
    if (kind_ == HeadKind::kVocabulary && last != HeadStep::Kind::kDecoder) {
      fail("expected decoder at its end");
    }
  }

  void parse_pool(std::string_view rest, HeadStep& step) {
    step.kind = HeadStep::Kind::kPool;
    do {
      const std::string_view name = take_until('+', rest);
      const std::optional<PoolingMode> mode = look_up(name, kPoolingModes);
      if (!mode) {
        fail("found the pooling mode " + quoted(name) + ", expected " + list_names(kPoolingModes));
      }
      if (std::find(step.modes.begin(), step.modes.end(), *mode) != step.modes.end()) {
        fail("the pooling mode " + quoted(name) + " repeats");
      }
      step.modes.push_back(*mode);
    } while (rest.data() != nullptr);
    step.output_size = size_ * static_cast<int64_t>(step.modes.size());
  }

  // The N of a step, which counts from 0 among the steps of its name.
  int32_t parse_index(const std::string& name, std::string_view text, int32_t& count) const {
    if (parse_decimal(text) != count) {
      fail("found " + name + ":" + std::string(quoted(text)) + ", expected " + name + ":" +
           std::to_string(count) + "; " + name + " steps count from 0 in order");
    }
    return count++;
  }

  void parse_dense(std::string_view rest, HeadStep& step) {
    step.kind = HeadStep::Kind::kDense;
    step.index = parse_index("dense", take_until(':', rest), num_dense_);
    const std::optional<Activation> activation = look_up(rest, kActivations);
    if (!activation) {
      fail("found the activation " + quoted(rest) + ", expected " + list_names(kActivations));
    }
    step.activation = *activation;
    step.output_size = dense_rows(step.index);
  }

  // The shape is checked here rather than in check_tensors, because its rows are a free choice
  // that the next step's columns, and the result's size, follow from.
  int64_t dense_rows(int32_t index) const {
    const std::string name = step_prefix(kind_, "dense", index) + ".weight";
    const TensorEntry* weight = file_.find(name);
    if (weight == nullptr) fail("the file has no tensor " + quoted(name));
    const std::vector<int64_t>& shape = weight->shape;
    if (shape.size() != 2 || shape[0] < 1 || shape[0] > kMaxSize || shape[1] != size_) {
      refuse_file(file_.name(), "tensor " + quoted(name) + " has shape " + shape_text(shape) +
                                    ", expected [out, " + std::to_string(size_) +
                                    "] with out from 1 to " + std::to_string(kMaxSize));
    }
    return shape[0];
  }

  const WeightsFile& file_;
  const HeadKind kind_;
  std::string_view text_;
  const int64_t vocab_size_;
  int64_t size_;  // of the row after the steps so far
  int32_t num_dense_ = 0;
  int32_t num_norms_ = 0;
  std::vector<HeadStep> steps_;
};

}  // namespace

Head parse_head(const WeightsFile& file, HeadKind kind, std::string_view text,
                const Architecture& architecture) {
  return HeadParser(file, kind, text, architecture).parse();
}

}  // namespace vlt
