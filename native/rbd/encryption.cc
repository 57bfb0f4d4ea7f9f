#include "rbd/encryption.h"

#include <string.h>

namespace cephkit {
namespace {

// A passphrase: copied once, never moved in memory, and wiped with the operation it was for.
class Secret {
public:
    explicit Secret(const View& view) : data_(std::make_unique<char[]>(view.size + 1)), size_(view.size) {
        std::copy_n(view.data, view.size, data_.get());
    }
    Secret(Secret&&) = default;
    ~Secret() {
        if (data_ != nullptr) explicit_bzero(data_.get(), size_);
    }

    const char* data() const { return data_.get(); }
    size_t size() const { return size_; }

private:
    std::unique_ptr<char[]> data_;  // none once moved from
    size_t size_;
};

}  // namespace

template <>
struct Parameter<const Secret&> : PlainParameter<Secret> {
    static Secret Take(Arguments& arguments) { return Secret(View::Of(arguments, arguments.Next())); }
};

namespace {

// The options have the same members for each format, in types of their own.
template <typename Options>
void Format(Image& image, rbd_encryption_format_t format, bool aes256, const Secret& passphrase) {
    Options options = {aes256 ? RBD_ENCRYPTION_ALGORITHM_AES256 : RBD_ENCRYPTION_ALGORITHM_AES128,
                       passphrase.data(), passphrase.size()};
    Check("rbd_encryption_format", rbd_encryption_format(image, format, &options, sizeof(options)));
}

// The algorithm is in the header, and the one in the options is not looked at.
template <typename Options>
void Load(Image& image, rbd_encryption_format_t format, const Secret& passphrase) {
    Options options = {RBD_ENCRYPTION_ALGORITHM_AES256, passphrase.data(), passphrase.size()};
    Check("rbd_encryption_load", rbd_encryption_load(image, format, &options, sizeof(options)));
}

void FormatEncryption(Image& image, bool luks2, bool aes256, const Secret& passphrase) {
    if (luks2) {
        Format<rbd_encryption_luks2_format_options_t>(image, RBD_ENCRYPTION_FORMAT_LUKS2, aes256, passphrase);
    } else {
        Format<rbd_encryption_luks1_format_options_t>(image, RBD_ENCRYPTION_FORMAT_LUKS1, aes256, passphrase);
    }
}

void LoadEncryption(Image& image, bool luks2, const Secret& passphrase) {
    if (luks2) {
        Load<rbd_encryption_luks2_format_options_t>(image, RBD_ENCRYPTION_FORMAT_LUKS2, passphrase);
    } else {
        Load<rbd_encryption_luks1_format_options_t>(image, RBD_ENCRYPTION_FORMAT_LUKS1, passphrase);
    }
}

}  // namespace

void InitEncryption(Exports& exports) {
    exports.Blocking<FormatEncryption>("imageFormatEncryption");
    exports.Blocking<LoadEncryption>("imageLoadEncryption");
}

}  // namespace cephkit
