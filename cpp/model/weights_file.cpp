#include "model/weights_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "model/file_error.h"
#include "model/half.h"
#include "model/header_parser.h"

namespace vlt {
namespace {

static_assert(std::endian::native == std::endian::little, "weights files are little-endian");

constexpr uint64_t kPrefixBytes = 8;  // the header's length
constexpr uint64_t kAlignment = 64;   // one cache line, and the widest vector register

struct DTypeRow {
  StoredType dtype;
  const char* name;
  uint64_t num_bytes;
};
constexpr std::array<DTypeRow, 5> kDTypes = {{{StoredType::kF32, "F32", 4},
                                              {StoredType::kF16, "F16", 2},
                                              {StoredType::kBF16, "BF16", 2},
                                              {StoredType::kU8, "U8", 1},
                                              {StoredType::kI8, "I8", 1}}};

const DTypeRow& row_of(StoredType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

std::string bytes_text(uint64_t begin, uint64_t end) {
  return "bytes " + std::to_string(begin) + " to " + std::to_string(end);
}

std::string read_header_text(const ByteSource& source) {
  if (source.size() < kPrefixBytes) {
    refuse_file(source.name(), "is " + std::to_string(source.size()) +
                                   " bytes long, too short even for the 8 bytes of its length");
  }
  uint64_t length = 0;
  source.read(0, &length, kPrefixBytes);
  if (length > kMaxHeaderBytes) {
    refuse_file(source.name(), "its first 8 bytes ask for a header of " + std::to_string(length) +
                                   " bytes, more than the " + std::to_string(kMaxHeaderBytes) +
                                   " allowed; it is no weights file, or it is damaged");
  }
  if (length > source.size() - kPrefixBytes) {
    refuse_file(source.name(), "its header should be " + std::to_string(length) +
                                   " bytes long, but the file ends after " +
                                   std::to_string(source.size() - kPrefixBytes) +
                                   "; it is cut short or no weights file");
  }
  std::string text(length, '\0');
  source.read(kPrefixBytes, text.data(), length);
  return text;
}

// Number of bytes a tensor of this shape takes; refuses what does not fit 64 bits.
uint64_t checked_num_bytes(const std::string& source_name, const HeaderTensor& tensor,
                           StoredType dtype) {
  uint64_t num_bytes = dtype_num_bytes(dtype);
  // A zero dimension makes any product 0, whatever the others are.
  if (std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end()) return 0;
  for (const int64_t dimension : tensor.shape) {
    if (num_bytes > std::numeric_limits<uint64_t>::max() / static_cast<uint64_t>(dimension)) {
      refuse_file(source_name, "tensor " + quoted(tensor.name) + " of shape " +
                                   shape_text(tensor.shape) + " needs more than 2^64 bytes");
    }
    num_bytes *= static_cast<uint64_t>(dimension);
  }
  return num_bytes;
}

StoredType parse_dtype(const std::string& source_name, const HeaderTensor& tensor) {
  for (const DTypeRow& row : kDTypes) {
    if (tensor.dtype == row.name) return row.dtype;
  }
  refuse_file(source_name, "tensor " + quoted(tensor.name) + " has dtype " + quoted(tensor.dtype) +
                               ", expected F32, F16, BF16, I8 or U8");
}

// A header's tensor with its range moved to the start of the file, once it lies inside the file and
// is as long as its shape says.
TensorEntry checked_entry(const ByteSource& source, uint64_t data_begin, HeaderTensor tensor) {
  const std::string& file = source.name();
  const std::string subject = "tensor " + quoted(tensor.name);
  const std::string range = "data_offsets " + bytes_text(tensor.begin, tensor.end);
  const uint64_t data_bytes = source.size() - data_begin;

  const StoredType dtype = parse_dtype(file, tensor);
  if (tensor.begin > tensor.end) refuse_file(file, subject + " has " + range + ": backwards");
  if (tensor.end > data_bytes) {
    refuse_file(file, subject + " has " + range + ", but the data ends at byte " +
                          std::to_string(data_bytes) + "; the file is cut short or damaged");
  }
  const uint64_t wanted = checked_num_bytes(file, tensor, dtype);
  if (tensor.end - tensor.begin != wanted) {
    refuse_file(file, subject + " has " + range + ", " + std::to_string(tensor.end - tensor.begin) +
                          " bytes, but " + tensor.dtype + " of shape " + shape_text(tensor.shape) +
                          " needs " + std::to_string(wanted));
  }
  TensorEntry entry;
  entry.name = std::move(tensor.name);
  entry.dtype = dtype;
  entry.shape = std::move(tensor.shape);
  entry.begin = data_begin + tensor.begin;
  entry.end = data_begin + tensor.end;
  if (entry.begin % kAlignment != 0 && !is_padding(entry)) {
    refuse_file(file, subject + " starts at byte " + std::to_string(entry.begin) +
                          " of the file, expected a multiple of " + std::to_string(kAlignment));
  }
  return entry;
}

// tensors: in the order of the file.
void check_cover(const ByteSource& source, uint64_t data_begin,
                 const std::vector<TensorEntry>& tensors) {
  uint64_t covered = data_begin;
  for (const TensorEntry& tensor : tensors) {
    if (tensor.begin != covered) {
      const std::string fault = tensor.begin < covered ? "overlaps" : "leaves a gap after";
      refuse_file(source.name(), "tensor " + quoted(tensor.name) + " at " +
                                     bytes_text(tensor.begin, tensor.end) + " of the file " +
                                     fault + " what comes before it, which ends at byte " +
                                     std::to_string(covered));
    }
    covered = tensor.end;
  }
  if (covered != source.size()) {
    refuse_file(source.name(), "its tensors end at byte " + std::to_string(covered) +
                                   ", but the file has " + std::to_string(source.size()) +
                                   " bytes; it must end where the last tensor ends");
  }
}

void check_format(const WeightsFile& file) {
  const std::string* format = file.find_metadata("format");
  if (format == nullptr || *format != "vlt") {
    const std::string found = format == nullptr ? "no 'format'" : "the format " + quoted(*format);
    refuse_file(file.name(), "is a safetensors file but not a vlt weights file: its metadata has " +
                                 found +
                                 ", expected 'vlt'; convert the model's folder with `vlt convert`");
  }
  const std::string* version = file.find_metadata("format_version");
  if (version == nullptr || *version != "1") {
    refuse_file(file.name(), (version == nullptr ? "has no format_version"
                                                 : "has format_version " + quoted(*version)) +
                                 ", expected '1'; convert the model again, or use the version of "
                                 "vlt that wrote the file");
  }
}

// Bytes → floats for one piece of a tensor. Both 16-bit conversions are exact.
template <float (*kConvert)(uint16_t)>
void widen(const uint16_t* source, size_t count, float* destination) {
  for (size_t i = 0; i < count; ++i) destination[i] = kConvert(source[i]);
}

void read_16_bit(const ByteSource& source, const TensorEntry& entry, float* destination) {
  // 64 KiB: fits the second-level cache, and is large enough to make the system call cheap.
  std::vector<uint16_t> staging(std::min<uint64_t>(entry.num_elements(), 32768));
  for (uint64_t done = 0; done < entry.num_elements();) {
    const uint64_t count = std::min<uint64_t>(staging.size(), entry.num_elements() - done);
    source.read(entry.begin + 2 * done, staging.data(), 2 * count);
    if (entry.dtype == StoredType::kF16) {
      widen<float16_to_float32>(staging.data(), count, destination + done);
    } else {
      widen<bfloat16_to_float32>(staging.data(), count, destination + done);
    }
    done += count;
  }
}

}  // namespace

const char* dtype_name(StoredType dtype) { return row_of(dtype).name; }
uint64_t dtype_num_bytes(StoredType dtype) { return row_of(dtype).num_bytes; }

bool is_padding(const TensorEntry& entry) { return entry.name.starts_with("_pad."); }

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

WeightsFile::WeightsFile(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {
  const std::string text = read_header_text(*source_);
  Header header = parse_header(text, name());
  metadata_ = std::move(header.metadata);
  check_format(*this);  // before the rules that other safetensors files need not keep

  const uint64_t data_begin = kPrefixBytes + text.size();
  for (HeaderTensor& tensor : header.tensors) {
    tensors_.push_back(checked_entry(*source_, data_begin, std::move(tensor)));
  }
  // An empty tensor shares its begin with the next one; it must come first.
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_cover(*source_, data_begin, tensors_);
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const std::string* WeightsFile::find_metadata(std::string_view key) const {
  for (const auto& [known_key, value] : metadata_) {
    if (known_key == key) return &value;
  }
  return nullptr;
}

const TensorEntry* WeightsFile::find(std::string_view tensor_name) const {
  const auto found = index_.find(tensor_name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void WeightsFile::read_float32(const TensorEntry& entry, float* destination) const {
  if (!is_float(entry.dtype)) {
    refuse_file(name(), "tensor " + quoted(entry.name) + " has dtype " + dtype_name(entry.dtype) +
                            ", expected a float one");
  }
  if (entry.dtype == StoredType::kF32) {
    source_->read(entry.begin, destination, entry.num_bytes());
  } else {
    read_16_bit(*source_, entry, destination);
  }
  float* const end = destination + entry.num_elements();
  const float* bad = std::find_if_not(destination, end, [](float x) { return std::isfinite(x); });
  if (bad != end) {
    refuse_file(name(), "element " + std::to_string(bad - destination) + " of tensor " +
                            quoted(entry.name) + " is " + std::to_string(*bad) +
                            ", expected a finite number");
  }
}

std::vector<uint8_t> WeightsFile::read_bytes(const TensorEntry& entry) const {
  std::vector<uint8_t> bytes(entry.num_bytes());
  source_->read(entry.begin, bytes.data(), bytes.size());
  return bytes;
}

std::vector<int8_t> WeightsFile::read_int8(const TensorEntry& entry) const {
  std::vector<int8_t> values(entry.num_bytes());
  source_->read(entry.begin, values.data(), values.size());
  return values;
}

}  // namespace vlt
