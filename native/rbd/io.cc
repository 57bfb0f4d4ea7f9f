#include "rbd/io.h"

namespace cephkit {
namespace {

int Read(RbdCompletion completion, Image& image, uint64_t offset, const PinnedBuffer& buffer) {
    return rbd_aio_read2(image, offset, buffer.size(), buffer.data(), completion, 0);
}

int Write(RbdCompletion completion, Image& image, uint64_t offset, const PinnedData& data) {
    return rbd_aio_write2(image, offset, data.size(), data.data(), completion, 0);
}

// Answers the size of the image, within which the next writes need not look. librbd leaves out what lies
// beyond the end, and says nothing. The data is a copy, as librbd's own of rbd_aio_write2() is: JavaScript
// may resize or transfer its memory before a worker comes to it.
uint64_t WriteWithin(Image& image, uint64_t offset, const Bytes& bytes) {
    const auto& data = bytes.data;
    uint64_t size = 0;
    Check("rbd_get_size", rbd_get_size(image, &size));
    if (data.size() > size || offset > size - data.size())
        throw Failure{"rbd_write2", EINVAL, "beyond the end of the image, which is " + std::to_string(size)};
    Check("rbd_write2", rbd_write2(image, offset, data.size(), data.data(), 0));
    return size;
}

int Discard(RbdCompletion completion, Image& image, uint64_t offset, uint64_t length) {
    return rbd_aio_discard(image, offset, length, completion);
}

int Flush(RbdCompletion completion, Image& image) {
    return rbd_aio_flush(image, completion);
}

void InvalidateCache(Image& image) {
    Check("rbd_invalidate_cache", rbd_invalidate_cache(image));
}

}  // namespace

void InitIo(Exports& exports) {
    exports.Aio<Read>("imageRead", "rbd_aio_read2");
    exports.Aio<Write>("imageWrite", "rbd_aio_write2");
    exports.Blocking<WriteWithin>("imageWriteWithin");
    exports.Aio<Discard>("imageDiscard", "rbd_aio_discard");
    exports.Aio<Flush>("imageFlush", "rbd_aio_flush");
    exports.Blocking<InvalidateCache>("imageInvalidateCache");
}

}  // namespace cephkit
