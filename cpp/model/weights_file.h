// The container of docs/WEIGHTS_FILE.md: which tensors a file holds, where, and its metadata.
// What the tensors mean is the business of architecture.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/byte_source.h"

namespace vlt {

enum class StoredType { kF32, kF16, kBF16, kU8, kI8 };

inline bool is_float(StoredType dtype) {
  return dtype != StoredType::kU8 && dtype != StoredType::kI8;
}

const char* dtype_name(StoredType dtype);    // as the header spells it: "F32"
uint64_t dtype_num_bytes(StoredType dtype);  // bytes of one element

struct TensorEntry {
  std::string name;
  StoredType dtype = StoredType::kF32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes from the start of the file; a multiple of 64 but for padding
  uint64_t end = 0;    // exactly begin + elements × element size, inside the file

  uint64_t num_bytes() const { return end - begin; }
  uint64_t num_elements() const { return num_bytes() / dtype_num_bytes(dtype); }
};

bool is_padding(const TensorEntry& entry);                  // named _pad.N
std::string shape_text(const std::vector<int64_t>& shape);  // "[30522, 384]"

// A weights file whose header has been read and whose every offset has been checked. Immutable;
// any number of threads may read tensors from one.
class WeightsFile {
 public:
  // Throws kFileError for whatever breaks a rule of the container.
  explicit WeightsFile(std::unique_ptr<ByteSource> source);

  const std::string& name() const { return source_->name(); }

  // In the order of the file.
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }
  const std::vector<TensorEntry>& tensors() const { return tensors_; }

  // NULL where the file has none. The result lives as long as this object.
  const std::string* find_metadata(std::string_view key) const;
  const TensorEntry* find(std::string_view name) const;

  // Writes entry.num_elements() floats; F16 and BF16 are widened, which is exact. Every value must
  // be finite: a weight that is not would turn every vector into NaN without a word.
  void read_float32(const TensorEntry& entry, float* destination) const;

  std::vector<uint8_t> read_bytes(const TensorEntry& entry) const;
  std::vector<int8_t> read_int8(const TensorEntry& entry) const;

 private:
  std::unique_ptr<ByteSource> source_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::vector<TensorEntry> tensors_;
  std::map<std::string, size_t, std::less<>> index_;  // name → position in tensors_
};

}  // namespace vlt
