#include "model/metadata_reader.h"

#include <charconv>
#include <cmath>

#include "model/file_error.h"

namespace vlt {

int32_t parse_decimal(std::string_view text) {
  const bool is_canonical = text == "0" || (!text.empty() && '1' <= text[0] && text[0] <= '9');
  int32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return is_canonical && error == std::errc() && rest == end ? value : -1;
}

void MetadataReader::refuse(std::string_view key, std::string_view value,
                            const std::string& expected) const {
  refuse_file(file_.name(),
              "its metadata has " + quoted(key) + " = " + quoted(value) + ", expected " + expected);
}

const std::string& MetadataReader::required(std::string_view key) const {
  const std::string* value = file_.find_metadata(key);
  if (value == nullptr) refuse_file(file_.name(), "its metadata lacks the key " + quoted(key));
  return *value;
}

int32_t MetadataReader::integer(std::string_view key, int32_t min, int32_t max) const {
  const std::string& text = required(key);
  const int32_t value = parse_decimal(text);
  if (value < min || value > max) {
    refuse(key, text,
           "an integer from " + std::to_string(min) + " to " + std::to_string(max) +
               " in decimal digits");
  }
  return value;
}

std::vector<int32_t> MetadataReader::integers(std::string_view key, int64_t count,
                                              int32_t max) const {
  const std::string& text = required(key);
  std::vector<int32_t> values;
  std::string_view rest = text;
  while (true) {
    const size_t end = rest.find(' ');
    const int32_t value = parse_decimal(rest.substr(0, end));
    if (value < 0 || value > max || static_cast<int64_t>(values.size()) == count) break;
    values.push_back(value);
    if (end == std::string_view::npos) {
      if (static_cast<int64_t>(values.size()) == count) return values;
      break;
    }
    rest = rest.substr(end + 1);
  }
  refuse(key, text,
         std::to_string(count) + " integers from 0 to " + std::to_string(max) +
             ", separated by single spaces; number " + std::to_string(values.size() + 1) +
             " is wrong or missing");
}

float MetadataReader::positive_number(std::string_view key) const {
  const std::string& text = required(key);
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  const auto narrow = static_cast<float>(value);
  if (error != std::errc() || rest != end || !std::isnormal(narrow) || narrow < 0) {
    refuse(key, text, "a decimal number above 0, such as 1e-12, within the range of float32");
  }
  return narrow;
}

}  // namespace vlt
