// Follows the table of well-formed byte sequences in the Unicode standard, section 3.9, table 3-7.
#include "model/utf8.h"

namespace vlt {
namespace {

bool is_between(uint8_t value, uint8_t low, uint8_t high) { return low <= value && value <= high; }

// Only the second byte's range depends on the first: that is what keeps out overlong forms (E0,
// F0), surrogates (ED) and values past U+10FFFF (F4).
bool is_second_byte(uint8_t lead, uint8_t second) {
  if (lead == 0xE0) return is_between(second, 0xA0, 0xBF);
  if (lead == 0xED) return is_between(second, 0x80, 0x9F);
  if (lead == 0xF0) return is_between(second, 0x90, 0xBF);
  if (lead == 0xF4) return is_between(second, 0x80, 0x8F);
  return is_between(second, 0x80, 0xBF);
}

size_t length_of_lead(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (is_between(lead, 0xC2, 0xDF)) return 2;
  if (is_between(lead, 0xE0, 0xEF)) return 3;
  if (is_between(lead, 0xF0, 0xF4)) return 4;
  return 0;
}

}  // namespace

size_t utf8_sequence_length(std::string_view text, size_t position) {
  const auto byte_at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte_at(position);
  const size_t length = length_of_lead(lead);
  if (length <= 1) return length;
  if (length > text.size() - position) return 0;
  if (!is_second_byte(lead, byte_at(position + 1))) return 0;
  for (size_t i = position + 2; i < position + length; ++i) {
    if (!is_between(byte_at(i), 0x80, 0xBF)) return 0;
  }
  return length;
}

void append_utf8(uint32_t code_point, std::string& out) {
  const auto push = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  const auto push_continuation = [&](int shift) { push(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xC0 | (code_point >> 6));
    push_continuation(0);
  } else if (code_point < 0x10000) {
    push(0xE0 | (code_point >> 12));
    push_continuation(6);
    push_continuation(0);
  } else {
    push(0xF0 | (code_point >> 18));
    push_continuation(12);
    push_continuation(6);
    push_continuation(0);
  }
}

}  // namespace vlt
