#include "espalier/datasets/checksum.h"

#include <array>
#include <variant>
#include <vector>

// Not the EVP functions, which bring in all of libcrypto, five megabytes in each program and plugin that is linked with
// it; and in FIPS mode they have no MD5, which here only tells a damaged download.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/md5.h>
#include <openssl/sha.h>

#include "content_reader.h"
#include "espalier/error.h"

namespace espalier {

struct Checksum::State {
  std::variant<MD5_CTX, SHA256_CTX> context;
};

Checksum::Checksum(const std::string& algorithm) : state_(std::make_unique<State>()) {
  if (algorithm == "md5") {
    MD5_Init(&state_->context.emplace<MD5_CTX>());
  } else if (algorithm == "sha256") {
    SHA256_Init(&state_->context.emplace<SHA256_CTX>());
  } else {
    throw Error("there is no checksum " + algorithm + "; there are md5 and sha256");
  }
}

Checksum::~Checksum() = default;

void Checksum::add(const void* bytes, size_t n) {
  if (auto* md5 = std::get_if<MD5_CTX>(&state_->context)) {
    MD5_Update(md5, bytes, n);
  } else {
    SHA256_Update(&std::get<SHA256_CTX>(state_->context), bytes, n);
  }
}

std::string Checksum::hex() {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  size_t n = SHA256_DIGEST_LENGTH;
  if (auto* md5 = std::get_if<MD5_CTX>(&state_->context)) {
    MD5_Final(digest.data(), md5);
    n = MD5_DIGEST_LENGTH;
  } else {
    SHA256_Final(digest.data(), &std::get<SHA256_CTX>(state_->context));
  }
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    constexpr char digits[] = "0123456789abcdef";
    text += {digits[digest[i] >> 4], digits[digest[i] & 15]};
  }
  return text;
}

namespace {

std::string checksum(ContentReader content, const std::string& algorithm) {
  Checksum sum(algorithm);
  std::vector<uint8_t> buffer(1U << 20);
  while (const size_t n = content.read(buffer.data(), buffer.size())) sum.add(buffer.data(), n);
  return sum.hex();
}

}  // namespace

std::string file_checksum(const std::filesystem::path& file, const std::string& algorithm) {
  return checksum(ContentReader(file, ContentReader::Unpack::nothing), algorithm);
}

std::string content_checksum(const std::filesystem::path& file, const std::string& algorithm) {
  return checksum(ContentReader(file), algorithm);
}

}  // namespace espalier
