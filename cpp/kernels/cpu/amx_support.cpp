#include "kernels/cpu/amx_support.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace vlt {
namespace {

// Of leaf 7, EDX.
constexpr unsigned kAmxBfloat16 = 1u << 22, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
constexpr uint64_t kTileState = uint64_t{3} << 17;  // of XCR0: configuration and data

bool processor_has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAll = kAmxBfloat16 | kAmxTile | kAmxInt8;
  return (d & kAll) == kAll;
}

// Only where the processor has AVX, and so the instruction.
bool system_saves_tiles() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return ((uint64_t{high} << 32 | low) & kTileState) == kTileState;
}

}  // namespace

bool has_amx() { return processor_has_tiles() && system_saves_tiles(); }

bool ask_for_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_…
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace vlt
