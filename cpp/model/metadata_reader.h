// Typed access to a weights file's metadata: numbers, switches and names, each with its range.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/name_table.h"
#include "model/weights_file.h"

namespace vlt {

// Decimal digits without sign or leading zeros, from 0 to INT32_MAX; -1 where the text is not that.
int32_t parse_decimal(std::string_view text);

// Every method throws kFileError naming the key, its value and what would be right.
class MetadataReader {
 public:
  explicit MetadataReader(const WeightsFile& file) : file_(file) {}

  bool has(std::string_view key) const { return file_.find_metadata(key) != nullptr; }
  const std::string& required(std::string_view key) const;
  int32_t integer(std::string_view key, int32_t min, int32_t max) const;

  // `count` integers from 0 to max, separated by single spaces.
  std::vector<int32_t> integers(std::string_view key, int64_t count, int32_t max) const;

  // A decimal number that stays positive and normal as a float32.
  float positive_number(std::string_view key) const;

  // The value that the key's text has in the table.
  template <typename Value, size_t kCount>
  Value one_of(std::string_view key, const NameTable<Value, kCount>& table) const {
    const std::string& text = required(key);
    const std::optional<Value> value = look_up(text, table);
    if (!value) refuse(key, text, list_names(table));
    return *value;
  }

  [[noreturn]] void refuse(std::string_view key, std::string_view value,
                           const std::string& expected) const;

 private:
  const WeightsFile& file_;
};

}  // namespace vlt
