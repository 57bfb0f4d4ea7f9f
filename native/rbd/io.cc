#include "rbd/io.h"

#include <sys/uio.h>

#include <vector>

namespace cephkit {
namespace {

// Several buffers as one stretch of the image.
class PinnedVector {
public:
    static PinnedVector Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsArray()) throw arguments.Expected("an array");
        const auto array = value.As<Napi::Array>();
        PinnedVector vector;
        vector.pinned_.reserve(array.Length());
        for (uint32_t i = 0; i < array.Length(); i++)
            vector.Add({arguments, array.Get(i)});
        // librbd wants one at least.
        if (vector.extents_.empty()) vector.extents_.push_back({&nothing_, 0});
        return vector;
    }

    const iovec* data() const { return extents_.data(); }
    int size() const { return static_cast<int>(extents_.size()); }

private:
    void Add(PinnedBuffer pinned) {
        if (pinned.size() == 0) return;
        extents_.push_back({pinned.data(), pinned.size()});
        pinned_.push_back(std::move(pinned));
    }

    static inline char nothing_ = '\0';

    std::vector<PinnedBuffer> pinned_;
    // librbd keeps the pointer to these until a read is complete.
    std::vector<iovec> extents_;
};

// An image, and where in it a range ends. librbd cuts off what lies beyond the end of the image, silently,
// and without asking whether the image is still as it was: so somebody has to, unless it is known.
class ImageUpTo : public std::shared_ptr<Image> {
public:
    ImageUpTo(std::shared_ptr<Image> image, uint64_t end)
        : std::shared_ptr<Image>(std::move(image)), end_(end) {}

    bool Ready() const { return get()->known_size().Covers(end_); }
    void Prepare(const char*) const { get()->known_size().Learn(); }

protected:
    uint64_t end_;
};

// The same for a range that must not be cut off.
class ImageWithin : public ImageUpTo {
public:
    using ImageUpTo::ImageUpTo;

    void Prepare(const char* syscall) const {
        const uint64_t size = get()->known_size().Learn();
        if (end_ <= size) return;
        throw Failure{syscall, EINVAL, "beyond the end of the image, which is " + std::to_string(size)};
    }
};

// Where an image was not as expected.
class Mismatch {
public:
    // For librbd to fill in.
    uint64_t* Of(rbd_image_t image, uint64_t offset) {
        image_ = image;
        offset_ = offset;
        return &told_;
    }

    Value ToValue(const AioResult& result) const {
        if (result.value != -EILSEQ) {
            result.Check();
            return nullptr;
        }
        // librbd counts the bytes from where the comparison began, and takes them for a place in the object,
        // which it then looks up in the image. The first stripe unit of an object is one of the image too.
        uint64_t stripe_unit = 0;
        Check("rbd_get_stripe_unit", rbd_get_stripe_unit(image_, &stripe_unit));
        return offset_ + told_ % stripe_unit;
    }

private:
    rbd_image_t image_ = nullptr;
    uint64_t offset_ = 0;
    uint64_t told_ = 0;
};

}  // namespace

template <>
struct Parameter<const PinnedVector&> : PlainParameter<PinnedVector> {
    static PinnedVector Take(Arguments& arguments) { return PinnedVector::Take(arguments); }
};

// Two arguments: the image, and the end of the range.
template <typename Ranged>
struct Parameter<const Ranged&, std::enable_if_t<std::is_base_of_v<ImageUpTo, Ranged>>>
    : PlainParameter<Ranged> {
    static Ranged Take(Arguments& arguments) {
        auto image = Parameter<Image&>::Take(arguments);
        return Ranged(std::move(image), Parameter<uint64_t>::Take(arguments));
    }
};

template <>
struct Parameter<Mismatch*> : OutParameter<Mismatch> {};

namespace {

void ForgetSize(Image& image) {
    image.known_size().Forget();
}

int Read(RbdCompletion completion, const ImageUpTo& image, uint64_t offset, const PinnedBuffer& buffer,
         int flags) {
    return rbd_aio_read2(*image, offset, buffer.size(), buffer.data(), completion, flags);
}

int Readv(RbdCompletion completion, const ImageUpTo& image, uint64_t offset, const PinnedVector& buffers) {
    return rbd_aio_readv(*image, buffers.data(), buffers.size(), offset, completion);
}

int Write(RbdCompletion completion, const ImageWithin& image, uint64_t offset, const PinnedBuffer& data,
          int flags) {
    return rbd_aio_write2(*image, offset, data.size(), data.data(), completion, flags);
}

int Writev(RbdCompletion completion, const ImageWithin& image, uint64_t offset, const PinnedVector& data) {
    return rbd_aio_writev(*image, data.data(), data.size(), offset, completion);
}

int Discard(RbdCompletion completion, const ImageUpTo& image, uint64_t offset, uint64_t length) {
    return rbd_aio_discard(*image, offset, length, completion);
}

int WriteZeroes(RbdCompletion completion, const ImageWithin& image, uint64_t offset, uint64_t length,
                int zero_flags, int flags) {
    return rbd_aio_write_zeroes(*image, offset, length, completion, zero_flags, flags);
}

int WriteSame(RbdCompletion completion, const ImageWithin& image, uint64_t offset, uint64_t length,
              const PinnedBuffer& data, int flags) {
    return rbd_aio_writesame(*image, offset, length, data.data(), data.size(), completion, flags);
}

int CompareAndWrite(RbdCompletion completion, const ImageWithin& image, uint64_t offset,
                    const PinnedBuffer& expected, const PinnedBuffer& data, Mismatch* mismatch, int flags) {
    if (expected.size() != data.size()) return -EINVAL;
    // librbd 16.2 aborts the process where what is as long as the data, and begins where the image differs,
    // counted from the beginning of a stripe unit, ends in another.
    uint64_t stripe_unit = 0;
    const int failure = rbd_get_stripe_unit(*image, &stripe_unit);
    if (failure < 0) return failure;
    if (data.size() <= 512 && 2 * data.size() - 1 > stripe_unit) return -ENOTSUP;
    return static_cast<int>(rbd_aio_compare_and_write(*image, offset, data.size(), expected.data(),
                                                      data.data(), completion, mismatch->Of(*image, offset),
                                                      flags));
}

int Flush(RbdCompletion completion, Image& image) {
    return rbd_aio_flush(image, completion);
}

void InvalidateCache(Image& image) {
    Check("rbd_invalidate_cache", rbd_invalidate_cache(image));
}

}  // namespace

void InitIo(Exports& exports) {
    exports.Sync<ForgetSize>("imageForgetSize");
    exports.AioCount<Read>("imageRead", "rbd_aio_read2");
    exports.AioCount<Readv>("imageReadv", "rbd_aio_readv");
    exports.Aio<Write>("imageWrite", "rbd_aio_write2");
    exports.Aio<Writev>("imageWritev", "rbd_aio_writev");
    exports.Aio<Discard>("imageDiscard", "rbd_aio_discard");
    exports.Aio<WriteZeroes>("imageWriteZeroes", "rbd_aio_write_zeroes");
    exports.Aio<WriteSame>("imageWriteSame", "rbd_aio_writesame");
    exports.Aio<CompareAndWrite>("imageCompareAndWrite", "rbd_aio_compare_and_write");
    exports.Aio<Flush>("imageFlush", "rbd_aio_flush");
    exports.Blocking<InvalidateCache>("imageInvalidateCache");
}

}  // namespace cephkit
