// Where data is and where it is not: in an image, and in the files that images are made of.
#include "rbd/diff.h"

#include <unistd.h>

#include <algorithm>

#include "rbd/image.h"

namespace cephkit {
namespace {

// Goes to JavaScript as it is: a million objects would hold up the event loop.
struct Extent {
    double offset;
    double length;
    double exists;

    double end() const { return offset + length; }
};

class Extents {
public:
    void Add(uint64_t offset, uint64_t length, bool exists) {
        const Extent extent{static_cast<double>(offset), static_cast<double>(length), exists ? 1.0 : 0.0};
        if (!extents_.empty() && extents_.back().end() == extent.offset &&
            extents_.back().exists == extent.exists) {
            extents_.back().length += extent.length;
        } else {
            extents_.push_back(extent);
        }
    }

    // In order, neighbours joined, and nothing outside of the range.
    Extents Within(double start, double end) && {
        std::sort(extents_.begin(), extents_.end(),
                  [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
        Extents within;
        for (const auto& extent : extents_) {
            const double from = std::max(extent.offset, start);
            const double to = std::min(extent.end(), end);
            if (from < to)
                within.Add(static_cast<uint64_t>(from), static_cast<uint64_t>(to - from), extent.exists != 0);
        }
        return within;
    }

    size_t size() const { return extents_.size(); }

    Bytes ToBytes() const {
        return {{reinterpret_cast<const char*>(extents_.data()), extents_.size() * sizeof(Extent)}};
    }

private:
    std::vector<Extent> extents_;
};

// As much of an image as goes over its objects once. Until 16.2.8 a fast diff that began within an object
// told wrong offsets, and one of an image with stripes told them in no order.
uint64_t StripePeriod(Image& image) {
    rbd_image_info_t info;
    Check("rbd_stat", rbd_stat(image, &info, sizeof(info)));
    uint64_t stripe_count = 0;
    Check("rbd_get_stripe_count", rbd_get_stripe_count(image, &stripe_count));
    return info.obj_size * stripe_count;
}

// What of the range differs; the progress is there for an abort only.
Bytes Diff(Image& image, const NullableString& from_snapshot, uint64_t offset, uint64_t length,
           bool include_parent, bool whole_object, Progress* progress) {
    uint64_t size = 0;
    Check("rbd_get_size", rbd_get_size(image, &size));
    // librbd 16.2.15 aborts the process when it takes a fast diff of nothing.
    if (offset >= size || length == 0) return {};
    length = std::min(length, size - offset);
    const uint64_t start = offset - offset % StripePeriod(image);

    struct Found {
        Extents extents;
        Progress* progress;

        // [worker, or librbd] One at a time.
        static int Add(uint64_t offset, size_t length, int exists, void* found) {
            auto* self = static_cast<Found*>(found);
            self->extents.Add(offset, length, exists != 0);
            return Progress::Update(0, 0, self->progress);
        }
    } found{{}, progress};
    Check("rbd_diff_iterate2", rbd_diff_iterate2(image, from_snapshot, start, offset + length - start,
                                                 include_parent, whole_object, Found::Add, &found));
    return std::move(found.extents)
        .Within(static_cast<double>(offset), static_cast<double>(offset + length))
        .ToBytes();
}

// The stretches of a file that are no holes, as many as `limit` from `offset` on. Moves the file's position.
Bytes FileData(int fd, uint64_t offset, uint64_t limit) {
    Extents extents;
    auto at = static_cast<off_t>(offset);
    while (extents.size() < limit) {
        const off_t start = lseek(fd, at, SEEK_DATA);
        if (start < 0 && errno == ENXIO) break;  // nothing but a hole, or nothing at all
        if (start < 0) throw Failure{"lseek", errno, ""};
        at = lseek(fd, start, SEEK_HOLE);
        if (at < 0) throw Failure{"lseek", errno, ""};
        extents.Add(static_cast<uint64_t>(start), static_cast<uint64_t>(at - start), true);
    }
    return extents.ToBytes();
}

}  // namespace

void InitDiff(Exports& exports) {
    exports.Blocking<Diff>("imageDiff");
    exports.Blocking<FileData>("fileData");
}

}  // namespace cephkit
