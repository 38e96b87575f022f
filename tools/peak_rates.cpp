#include "peak_rates.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace vlt::bench {
namespace {

using Clock = std::chrono::steady_clock;

// The median of some turns of `body` on all threads, in seconds, as products are timed too.
double median_seconds(int threads, const std::function<void()>& body) {
  std::vector<double> turns;
  for (int turn = 0; turn < 7; ++turn) {
    const auto begin = Clock::now();
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(body);
    body();
    for (std::thread& other : others) other.join();
    turns.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::nth_element(turns.begin(), turns.begin() + 3, turns.end());
  return turns[3];
}

#if defined(__x86_64__)
constexpr int64_t kRounds = 4'000'000;
constexpr int kSums = 16;  // independent ones: more than latency times width

// Keeps a register's value from being known, or left out.
#define VLT_KEEP(x) asm volatile("" : "+v"(x))

// Each returns the operations that one call does.
__attribute__((target("avx512f"))) double run_avx512() {
  __m512 sums[kSums] = {}, a = _mm512_set1_ps(1e-9f);
  for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(a, a, sum);
      VLT_KEEP(sum);
    }
  }
  return 2.0 * 16 * kSums * kRounds;
}

__attribute__((target("avx2,fma"))) double run_avx2() {
  __m256 sums[kSums - 2] = {}, a = _mm256_set1_ps(1e-9f);
  for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(a, a, sum);
      asm volatile("" : "+x"(sum));
    }
  }
  return 2.0 * 8 * (kSums - 2) * kRounds;
}

__attribute__((target("avx512f,avx512bf16"))) double run_pairs() {
  __m512 sums[kSums] = {};
  const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0));
  for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, a, a);
      VLT_KEEP(sum);
    }
  }
  return 2.0 * 32 * kSums * kRounds;
}

__attribute__((target("avx512f,avx512vnni"))) double run_fours() {
  __m512i sums[kSums] = {};
  const __m512i a = _mm512_set1_epi32(1);
  for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, a, a);
      VLT_KEEP(sum);
    }
  }
  return 2.0 * 64 * kSums * kRounds;
}

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t rest[15] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

__attribute__((target("amx-tile,amx-bf16,amx-int8"))) double run_tiles(bool int8) {
  const TileConfig config;
  asm volatile("" : : "r"(&config) : "memory");  // gcc is not told that it is loaded from memory
  _tile_loadconfig(&config);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  constexpr int64_t kTileRounds = kRounds / 8;
  for (int64_t round = 0; round < kTileRounds; ++round) {
    if (int8) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_release();
  return 2.0 * 16 * 16 * (int8 ? 64 : 32) * 4 * kTileRounds;
}
#endif

// Reads in several places at once, which keeps more lines under way than one behind the other.
constexpr size_t kPlaces = 4;

#if defined(__x86_64__)
__attribute__((target("avx2"))) void read_all(const uint64_t* memory, size_t count) {
  constexpr size_t kStep = 8;  // a cache line
  const size_t part = count / kPlaces / kStep * kStep;
  __m256i sums[2 * kPlaces] = {};
  for (size_t i = 0; i < part; i += kStep) {
#pragma GCC unroll 4
    for (size_t place = 0; place < kPlaces; ++place) {
      const auto* line = reinterpret_cast<const __m256i*>(memory + place * part + i);
      sums[2 * place] = _mm256_xor_si256(sums[2 * place], _mm256_load_si256(line));
      sums[2 * place + 1] = _mm256_xor_si256(sums[2 * place + 1], _mm256_load_si256(line + 1));
    }
  }
  for (__m256i& sum : sums) asm volatile("" : "+x"(sum));
}
#else
void read_all(const uint64_t* memory, size_t count) {
  const size_t part = count / kPlaces;
  uint64_t sums[kPlaces] = {};
  for (size_t i = 0; i < part; ++i)
    for (size_t place = 0; place < kPlaces; ++place) sums[place] ^= memory[place * part + i];
  for (const uint64_t sum : sums) asm volatile("" : : "r"(sum));
}
#endif

}  // namespace

double peak_rate([[maybe_unused]] const std::string& instruction_set,
                 [[maybe_unused]] const std::string& weights, [[maybe_unused]] int threads) {
#if defined(__x86_64__)
  std::function<double()> run;
  if (instruction_set == "amx_bf16" || instruction_set == "amx_int8")
    run = [int8 = weights == "int8"] { return run_tiles(int8); };
  else if (instruction_set == "avx512_bf16")
    run = run_pairs;
  else if (instruction_set == "avx512_vnni")
    run = run_fours;
  else if (instruction_set == "avx512")
    run = run_avx512;
  else if (instruction_set == "avx2")
    run = run_avx2;
  else
    return 0;
  const double operations = run() * threads;
  return operations / median_seconds(threads, run);
#else
  return 0;
#endif
}

double read_rate(int64_t size, int threads) {
  constexpr std::align_val_t kHugePage{size_t{2} << 20};  // what weights lie in, too
  const auto count = static_cast<size_t>(size) / sizeof(uint64_t);
  const std::unique_ptr<uint64_t[], void (*)(uint64_t*)> owner(
      static_cast<uint64_t*>(operator new(count * sizeof(uint64_t), kHugePage)),
      [](uint64_t* p) { operator delete(p, kHugePage); });
  uint64_t* memory = owner.get();
#if defined(__linux__)
  madvise(memory, count * sizeof(uint64_t), MADV_HUGEPAGE);  // a hint; failing is fine
#endif
  std::fill_n(memory, count, 1);
  const double seconds = median_seconds(threads, [&] { read_all(memory, count); });
  return static_cast<double>(count * sizeof(uint64_t)) * threads / seconds;
}

}  // namespace vlt::bench
