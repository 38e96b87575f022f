// Files by Windows.
#include "model/file_handle.h"

#include <windows.h>

#include <algorithm>
#include <filesystem>

namespace vlt {
namespace {

std::error_code latest_error() {
  return {static_cast<int>(GetLastError()), std::system_category()};
}

HANDLE to_handle(intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }

}  // namespace

// The flag for backups lets folders be opened, so that the error can call them one.
FileHandle::FileHandle(const std::string& path) {
  const std::filesystem::path wide(std::u8string(path.begin(), path.end()));
  handle_ = reinterpret_cast<intptr_t>(CreateFileW(
      wide.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
      OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, nullptr));
  if (to_handle(handle_) == INVALID_HANDLE_VALUE) error_ = latest_error();
}

FileHandle::~FileHandle() {
  if (!error_) CloseHandle(to_handle(handle_));
}

std::error_code FileHandle::examine(Kind& out_kind, uint64_t& out_size) const {
  out_kind = Kind::kOther;
  out_size = 0;
  if (GetFileType(to_handle(handle_)) != FILE_TYPE_DISK) return {};
  BY_HANDLE_FILE_INFORMATION info;
  if (!GetFileInformationByHandle(to_handle(handle_), &info)) return latest_error();
  const bool folder = info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY;
  out_kind = folder ? Kind::kFolder : Kind::kRegular;
  out_size = (uint64_t{info.nFileSizeHigh} << 32) | info.nFileSizeLow;
  return {};
}

std::error_code FileHandle::read_some(uint64_t offset, void* destination, uint64_t num_bytes,
                                      uint64_t& out_count) const {
  const auto wanted = static_cast<DWORD>(std::min<uint64_t>(num_bytes, 1u << 30));
  OVERLAPPED where = {};  // also of a file that was not opened for overlapped reading
  where.Offset = static_cast<DWORD>(offset);
  where.OffsetHigh = static_cast<DWORD>(offset >> 32);
  DWORD count = 0;
  if (!ReadFile(to_handle(handle_), destination, wanted, &count, &where) &&
      GetLastError() != ERROR_HANDLE_EOF)
    return latest_error();
  out_count = count;
  return {};
}

}  // namespace vlt
