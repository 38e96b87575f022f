// UTF-8, checked and written by hand: the standard library offers neither.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vlt {

// Bytes of the UTF-8 sequence that starts at text[position], or 0 where none does: a stray
// continuation byte, an overlong form, a surrogate, a value past U+10FFFF, a cut sequence.
size_t utf8_sequence_length(std::string_view text, size_t position);

// Appends a code point that is no surrogate and at most U+10FFFF.
void append_utf8(uint32_t code_point, std::string& out);

}  // namespace vlt
