#include "espalier/datasets/checksum.h"

#include <vector>

#include <openssl/evp.h>

#include "content_reader.h"
#include "espalier/error.h"

namespace espalier {

struct Checksum::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Checksum::Checksum(const std::string& algorithm) : state_(std::make_unique<State>()) {
  const EVP_MD* digest = EVP_get_digestbyname(algorithm.c_str());
  // A system in FIPS mode has no MD5.
  if (!digest || EVP_DigestInit_ex(state_->context, digest, nullptr) != 1) {
    throw Error("the checksum " + algorithm + " is not available on this system");
  }
}

Checksum::~Checksum() = default;

void Checksum::add(const void* bytes, size_t n) {
  EVP_DigestUpdate(state_->context, bytes, n);
}

std::string Checksum::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int n = 0;
  EVP_DigestFinal_ex(state_->context, digest, &n);
  std::string text;
  for (unsigned int i = 0; i < n; ++i) {
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
