// Buckets of batch sizes on a device: pure arithmetic, so tested without one.
#include "encoder/device_plan.h"
#include "harness.h"

namespace vlt::tests {
namespace {

std::string describe(int64_t tokens, const Room& room) {
  return std::to_string(tokens) + " tokens, room for " + std::to_string(room.tokens);
}

// Room is never too small, wastes at most an eighth (but for tiny batches) and, where passes are
// recorded, less than two rows of tiles, and never falls.
void check_tokens(Report& report, int64_t largest) {
  int64_t before = 0, buckets = 0;
  for (int64_t tokens = 0; tokens <= largest; ++tokens) {
    const Room room = DevicePlan::room(tokens, 1, 0);
    const bool fits = room.tokens >= tokens && room.tokens >= before;
    const bool tight = room.tokens <= std::max<int64_t>(64, tokens + tokens / 8) &&
                       (!room.recordable || room.tokens < tokens + 256);
    if (!fits || !tight) report.check(describe(tokens, room), false, "is not a good bucket");
    buckets += room.tokens != before;
    before = room.tokens;
  }
  report.check("buckets up to " + std::to_string(largest), buckets <= 131, "are too many");
}

}  // namespace

int test_device_plan(const HostBackend& backend) {
  Report report(backend.name());
  check_tokens(report, 40000);
  const int64_t most = DevicePlan::kMaxRecordedTokens;
  report.check("a bucket is its own", DevicePlan::room(most, 1, 0).tokens == most, "it is not");
  report.check("small batches are recorded", DevicePlan::room(most, most, 0).recordable, "no");
  report.check("chosen tokens are not recorded", !DevicePlan::room(64, 1, 3).recordable,
               "they are");
  report.check("large ones are not", !DevicePlan::room(most + 1, 1, 0).recordable, "they are");
  const Room many = DevicePlan::room(100, 5000, 0);
  report.check("nor are masses of empty sequences", !many.recordable && many.sequences >= 5000,
               "they are, or have no room");
  const Room recorded = DevicePlan::room(100, 1, 0);
  report.check("a recording has room for any number of sequences with tokens",
               recorded.sequences >= recorded.tokens, "it has not");
  return report.finish("device_plan");
}

}  // namespace vlt::tests
