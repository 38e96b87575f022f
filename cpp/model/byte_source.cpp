// Files are read by position, not mapped: when another process truncates a mapped file, touching
// the lost pages raises SIGBUS, which kills the whole process. A read comes back short instead, and
// the weights are copied into their prepared form anyway.
#include "model/byte_source.h"

#include <cstring>

#include "model/file_error.h"
#include "model/file_handle.h"

namespace vlt {
namespace {

void check_range(const ByteSource& source, uint64_t offset, uint64_t num_bytes) {
  if (offset <= source.size() && num_bytes <= source.size() - offset) return;
  refuse_file(source.name(), "it ends at byte " + std::to_string(source.size()) + ", before the " +
                                 std::to_string(num_bytes) + " bytes wanted at byte " +
                                 std::to_string(offset));
}

class FileSource final : public ByteSource {
 public:
  explicit FileSource(const std::string& path)
      : ByteSource(quoted(path, std::string::npos)), file_(path) {
    if (file_.opening_error()) {
      refuse_file(name(), "cannot be opened: " + file_.opening_error().message());
    }
    FileHandle::Kind kind{};
    if (const std::error_code error = file_.examine(kind, size_)) {
      refuse_file(name(), "cannot be examined: " + error.message());
    }
    if (kind == FileHandle::Kind::kFolder) {
      refuse_file(name(), "is a folder; give the path of the weights file itself");
    }
    if (kind != FileHandle::Kind::kRegular) {
      refuse_file(name(), "is a pipe or a device; only a regular file can be read by position");
    }
  }

  uint64_t size() const override { return size_; }

  void read(uint64_t offset, void* destination, uint64_t num_bytes) const override {
    check_range(*this, offset, num_bytes);
    auto* bytes = static_cast<char*>(destination);
    while (num_bytes > 0) {
      const uint64_t count = read_some(offset, bytes, num_bytes);
      offset += count;
      bytes += count;
      num_bytes -= count;
    }
  }

 private:
  // At least one byte.
  uint64_t read_some(uint64_t offset, char* destination, uint64_t num_bytes) const {
    uint64_t count = 0;
    const std::error_code error = file_.read_some(offset, destination, num_bytes, count);
    const std::string place = " at byte " + std::to_string(offset);
    if (error) refuse_file(name(), "cannot be read" + place + ": " + error.message());
    if (count == 0)
      refuse_file(name(), "ended" + place + " of the " + std::to_string(size_) +
                              " it had when it was opened; something is rewriting it");
    return count;
  }

  FileHandle file_;
  uint64_t size_ = 0;
};

class MemorySource final : public ByteSource {
 public:
  MemorySource(const void* bytes, uint64_t num_bytes)
      : ByteSource("<memory>"), bytes_(static_cast<const char*>(bytes)), size_(num_bytes) {}

  uint64_t size() const override { return size_; }

  void read(uint64_t offset, void* destination, uint64_t num_bytes) const override {
    check_range(*this, offset, num_bytes);
    if (num_bytes > 0) std::memcpy(destination, bytes_ + offset, num_bytes);
  }

 private:
  const char* bytes_;
  uint64_t size_;
};

}  // namespace

std::unique_ptr<ByteSource> open_file_source(const std::string& path) {
  return std::make_unique<FileSource>(path);
}

std::unique_ptr<ByteSource> borrow_memory_source(const void* bytes, uint64_t num_bytes) {
  return std::make_unique<MemorySource>(bytes, num_bytes);
}

}  // namespace vlt
