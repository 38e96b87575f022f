#include "model/header_parser.h"

#include <limits>
#include <set>

#include "model/file_error.h"
#include "model/utf8.h"

namespace vlt {
namespace {

bool is_digit(int byte) { return '0' <= byte && byte <= '9'; }

// Walks over the text once. Every method starts where the one before stopped.
class Parser {
 public:
  Parser(std::string_view text, const std::string& source_name)
      : text_(text), source_name_(source_name) {}

  Header parse() {
    // The format asks for "{" in the very first byte and for nothing but spaces after the last "}".
    if (peek() != '{') fail("'{' as the first byte");
    Header header;
    parse_object([&](std::string key, size_t key_position) {
      if (key == "__metadata__") {
        parse_metadata(header);
      } else {
        parse_tensor(std::move(key), key_position, header);
      }
    });
    while (peek() == ' ') ++position_;
    if (position_ != text_.size()) fail("nothing but spaces after the header's closing '}'");
    return header;
  }

 private:
  static constexpr int kEnd = -1;

  int peek() const {
    return position_ < text_.size() ? static_cast<uint8_t>(text_[position_]) : kEnd;
  }

  void skip_space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++position_;
  }

  [[noreturn]] void fail_at(size_t position, const std::string& what) const {
    refuse_file(source_name_, "byte " + std::to_string(position) + " of its header: " + what);
  }

  [[noreturn]] void fail(const std::string& expected) const {
    const std::string found =
        position_ < text_.size() ? quoted(text_.substr(position_, 1)) : "the header's end";
    fail_at(position_, "found " + found + ", expected " + expected);
  }

  bool accept(char wanted) {
    skip_space();
    if (peek() != wanted) return false;
    ++position_;
    return true;
  }

  void expect(char wanted, const std::string& place) {
    if (!accept(wanted)) fail(quoted({&wanted, 1}) + " " + place);
  }

  // Calls parse_value(key, position of the key) for each key, standing at the key's value.
  template <typename ParseValue>
  void parse_object(ParseValue parse_value) {
    expect('{', "to open an object");
    if (accept('}')) return;
    std::set<std::string> keys;  // ordered: no choice of keys makes it slow, as hashing would
    do {
      skip_space();
      const size_t key_position = position_;
      std::string key = parse_string("a key in double quotes");
      if (!keys.insert(key).second) fail_at(key_position, "the key " + quoted(key) + " repeats");
      expect(':', "after the key " + quoted(key));
      parse_value(std::move(key), key_position);
    } while (accept(','));
    expect('}', "or ',' after a value of an object");
  }

  void parse_metadata(Header& header) {
    parse_object([&](std::string key, size_t key_position) {
      check_count(header.metadata.size(), kMaxMetadataPairs, "metadata keys", key_position);
      std::string value = parse_string("a string: the metadata value of " + quoted(key));
      header.metadata.emplace_back(std::move(key), std::move(value));
    });
  }

  void parse_tensor(std::string name, size_t name_position, Header& header) {
    check_count(header.tensors.size(), kMaxTensors, "tensors", name_position);
    HeaderTensor tensor;
    int num_fields = 0;  // no key repeats, so three known ones are all three
    parse_object([&](const std::string& key, size_t key_position) {
      if (key == "dtype") {
        tensor.dtype = parse_string("a dtype in double quotes");
      } else if (key == "shape") {
        tensor.shape = parse_shape();
      } else if (key == "data_offsets") {
        parse_offsets(tensor);
      } else {
        fail_at(key_position, "the key " + quoted(key) + " of tensor " + quoted(name) +
                                  "; only dtype, shape and data_offsets may stand there");
      }
      ++num_fields;
    });
    if (num_fields != 3) {
      fail_at(name_position, "tensor " + quoted(name) + " has " + std::to_string(num_fields) +
                                 " of the three keys dtype, shape and data_offsets");
    }
    tensor.name = std::move(name);
    header.tensors.push_back(std::move(tensor));
  }

  std::vector<int64_t> parse_shape() {
    std::vector<int64_t> shape;
    expect('[', "to open a shape");
    if (accept(']')) return shape;
    do {
      check_count(shape.size(), kMaxDimensions, "dimensions of a tensor", position_);
      shape.push_back(static_cast<int64_t>(parse_integer(std::numeric_limits<int64_t>::max())));
    } while (accept(','));
    expect(']', "or ',' after a dimension");
    return shape;
  }

  void parse_offsets(HeaderTensor& tensor) {
    expect('[', "to open data_offsets");
    tensor.begin = parse_integer(std::numeric_limits<uint64_t>::max());
    expect(',', "between the two data_offsets");
    tensor.end = parse_integer(std::numeric_limits<uint64_t>::max());
    expect(']', "after the two data_offsets");
  }

  uint64_t parse_integer(uint64_t max) {
    skip_space();
    const size_t start = position_;
    const auto fail_number = [&](const std::string& expected) {
      const std::string_view rest = text_.substr(start);
      const std::string found = quoted(rest.substr(0, rest.find_first_of(",]} ")), 24);
      fail_at(start, "found " + found + ", expected " + expected);
    };
    if (!is_digit(peek())) fail_number("an integer in decimal digits, without a sign");
    uint64_t value = 0;
    for (; is_digit(peek()); ++position_) {
      const auto digit = static_cast<uint64_t>(peek() - '0');
      if (value > (max - digit) / 10) fail_number("an integer up to " + std::to_string(max));
      value = value * 10 + digit;
    }
    if (text_[start] == '0' && position_ - start > 1) fail_number("no leading zeros");
    const int next = peek();
    if (next == '.' || next == 'e' || next == 'E') {
      fail_number("an integer, without fraction or exponent");
    }
    return value;
  }

  std::string parse_string(const std::string& expected) {
    skip_space();
    if (peek() != '"') fail(expected);
    ++position_;
    std::string out;
    while (peek() != '"') append_character(out);
    ++position_;
    return out;
  }

  void append_character(std::string& out) {
    const int byte = peek();
    if (byte == kEnd) fail("'\"' to close a string");
    if (byte < 0x20) fail("an escape: control bytes may not stand in a string as they are");
    if (byte == '\\') return append_escape(out);
    const size_t length = utf8_sequence_length(text_, position_);
    if (length == 0) fail("valid UTF-8");
    out += text_.substr(position_, length);
    position_ += length;
  }

  void append_escape(std::string& out) {
    constexpr std::string_view kLetters = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    ++position_;  // the backslash
    const int letter = peek();
    if (letter == 'u') return append_utf8(parse_code_point(), out);
    const size_t index =
        letter == kEnd ? std::string_view::npos : kLetters.find(static_cast<char>(letter));
    if (index == std::string_view::npos) fail("one of \" \\ / b f n r t u after a backslash");
    out.push_back(kMeanings[index]);
    ++position_;
  }

  // Stands at the u of an escape. Two escapes in a row make one code point above U+FFFF.
  uint32_t parse_code_point() {
    const size_t start = position_ - 1;
    const uint32_t first = parse_utf16_unit();
    if (first == 0) fail_at(start, "found \\u0000, which no C string can hold");
    if (first < 0xD800 || first > 0xDFFF) return first;
    const bool is_high = first < 0xDC00;
    if (!is_high || text_.substr(position_, 2) != "\\u") {
      fail_at(start, "found half a surrogate pair, expected \\uD8xx\\uDCxx, both halves");
    }
    ++position_;
    const uint32_t second = parse_utf16_unit();
    if (second < 0xDC00 || second > 0xDFFF) {
      fail_at(start, "found a high surrogate without its low one, expected \\uD8xx\\uDCxx");
    }
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
  }

  uint32_t parse_utf16_unit() {
    ++position_;  // the u
    uint32_t unit = 0;
    for (int i = 0; i < 4; ++i, ++position_) {
      constexpr std::string_view kDigits = "0123456789abcdefABCDEF";
      const int byte = peek();
      const size_t digit =
          byte == kEnd ? std::string_view::npos : kDigits.find(static_cast<char>(byte));
      if (digit == std::string_view::npos) fail("four hexadecimal digits after \\u");
      unit = unit * 16 + static_cast<uint32_t>(digit < 16 ? digit : digit - 6);
    }
    return unit;
  }

  void check_count(size_t count, size_t max, const std::string& what, size_t position) const {
    if (count < max) return;
    fail_at(position, "more than " + std::to_string(max) + " " + what);
  }

  std::string_view text_;
  const std::string& source_name_;
  size_t position_ = 0;
};

}  // namespace

Header parse_header(std::string_view json, const std::string& source_name) {
  return Parser(json, source_name).parse();
}

}  // namespace vlt
