#include "rados/object.h"

#include <functional>
#include <unordered_map>

#include "runtime/list.h"
#include "runtime/utf8.h"

namespace cephkit {
namespace {

// The elements of one step, after its name.
class Step {
public:
    Step(const Arguments& arguments, Napi::Value step) : arguments_(arguments) {
        if (!step.IsArray()) throw arguments.Expected("an array of arrays");
        step_ = step.As<Napi::Array>();
        name_ = Text();
    }

    const std::string& name() const { return name_; }
    std::string Text() { return ToCString(arguments_, Next()); }
    std::string Buffer() { return ToBytes(arguments_, Next()); }
    bool Boolean() { return Next().ToBoolean(); }
    uint64_t Number() { return Integer<uint64_t>(Next()); }
    Napi::Array List() {
        const auto value = Next();
        if (!value.IsArray()) throw arguments_.Expected("an array of arrays");
        return value.As<Napi::Array>();
    }
    StringList Strings() {
        const auto array = List();
        StringList strings;
        for (uint32_t i = 0; i < array.Length(); i++)
            strings.push_back(ToCString(arguments_, array.Get(i)));
        return strings;
    }
    // LIBRADOS_CMPXATTR_OP_*, by name.
    uint8_t Comparison() {
        static const std::unordered_map<std::string, uint8_t> operators = {
            {"eq", LIBRADOS_CMPXATTR_OP_EQ}, {"ne", LIBRADOS_CMPXATTR_OP_NE},
            {"gt", LIBRADOS_CMPXATTR_OP_GT}, {"gte", LIBRADOS_CMPXATTR_OP_GTE},
            {"lt", LIBRADOS_CMPXATTR_OP_LT}, {"lte", LIBRADOS_CMPXATTR_OP_LTE}};
        const auto found = operators.find(Text());
        if (found == operators.end()) throw arguments_.Expected("compared with eq, ne, gt, gte, lt or lte");
        return found->second;
    }

    const Arguments& arguments() const { return arguments_; }

private:
    Napi::Value Next() { return step_.Get(next_++); }

    template <typename T>
    T Integer(Napi::Value value) const {
        const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
        if (number < 0 || number > 9007199254740991 ||
            number != static_cast<double>(static_cast<T>(number))) {
            throw arguments_.Expected("a step with a safe integer");
        }
        return static_cast<T>(number);
    }

    const Arguments& arguments_;
    Napi::Array step_;
    std::string name_;
    uint32_t next_ = 0;
};

// Pointers and lengths of strings, as the omap functions take them.
struct Pointers {
    explicit Pointers(const StringList& strings) {
        for (const auto& string : strings) {
            data.push_back(string.data());
            sizes.push_back(string.size());
        }
    }
    std::vector<const char*> data;
    std::vector<size_t> sizes;
};

// librados copies all it is given here.
class WriteOperation {
public:
    WriteOperation() : op_(rados_create_write_op(), rados_release_write_op) {}
    operator rados_write_op_t() const { return op_.get(); }

    void Add(Step step) {
        static const std::unordered_map<std::string, void (*)(rados_write_op_t, Step&)> adders = {
            {"create",
             [](rados_write_op_t op, Step& step) {
                 rados_write_op_create(
                     op, step.Boolean() ? LIBRADOS_CREATE_EXCLUSIVE : LIBRADOS_CREATE_IDEMPOTENT, nullptr);
             }},
            {"assertExists", [](rados_write_op_t op, Step&) { rados_write_op_assert_exists(op); }},
            {"assertVersion",
             [](rados_write_op_t op, Step& step) { rados_write_op_assert_version(op, step.Number()); }},
            {"compareXattr",
             [](rados_write_op_t op, Step& step) {
                 const auto name = step.Text();
                 const auto comparison = step.Comparison();
                 const auto value = step.Buffer();
                 rados_write_op_cmpxattr(op, name.c_str(), comparison, value.data(), value.size());
             }},
            {"compareOmap",
             [](rados_write_op_t op, Step& step) {
                 const auto key = step.Text();
                 const auto comparison = step.Comparison();
                 const auto value = step.Buffer();
                 rados_write_op_omap_cmp2(op, key.data(), comparison, value.data(), key.size(), value.size(),
                                          nullptr);
             }},
            {"write",
             [](rados_write_op_t op, Step& step) {
                 const auto data = step.Buffer();
                 rados_write_op_write(op, data.data(), data.size(), step.Number());
             }},
            {"writeFull",
             [](rados_write_op_t op, Step& step) {
                 const auto data = step.Buffer();
                 rados_write_op_write_full(op, data.data(), data.size());
             }},
            {"append",
             [](rados_write_op_t op, Step& step) {
                 const auto data = step.Buffer();
                 rados_write_op_append(op, data.data(), data.size());
             }},
            {"truncate", [](rados_write_op_t op, Step& step) { rados_write_op_truncate(op, step.Number()); }},
            {"zero",
             [](rados_write_op_t op, Step& step) {
                 const auto offset = step.Number();
                 rados_write_op_zero(op, offset, step.Number());
             }},
            {"remove", [](rados_write_op_t op, Step&) { rados_write_op_remove(op); }},
            {"setXattr",
             [](rados_write_op_t op, Step& step) {
                 const auto name = step.Text();
                 const auto value = step.Buffer();
                 rados_write_op_setxattr(op, name.c_str(), value.data(), value.size());
             }},
            {"removeXattr",
             [](rados_write_op_t op, Step& step) { rados_write_op_rmxattr(op, step.Text().c_str()); }},
            {"setOmap", SetOmap},
            {"removeOmap",
             [](rados_write_op_t op, Step& step) {
                 const auto keys = step.Strings();
                 const Pointers pointers(keys);
                 rados_write_op_omap_rm_keys2(op, pointers.data.data(), pointers.sizes.data(), keys.size());
             }},
            {"clearOmap", [](rados_write_op_t op, Step&) { rados_write_op_omap_clear(op); }},
            {"exec",
             [](rados_write_op_t op, Step& step) {
                 const auto object_class = step.Text();
                 const auto method = step.Text();
                 const auto input = step.Buffer();
                 rados_write_op_exec(op, object_class.c_str(), method.c_str(), input.data(), input.size(),
                                     nullptr);
             }},
        };
        const auto found = adders.find(step.name());
        if (found == adders.end()) throw step.arguments().Expected("an array of write steps");
        found->second(op_.get(), step);
    }

    Value ToValue(const AioResult& result) const {
        result.Check();
        return Object{{"version", result.version}};
    }

private:
    static void SetOmap(rados_write_op_t op, Step& step) {
        const auto entries = step.List();
        StringList keys, values;
        for (uint32_t i = 0; i < entries.Length(); i++) {
            // A pair has the shape of a step: its first element is a string, its second a Buffer.
            Step entry(step.arguments(), entries.Get(i));
            keys.push_back(entry.name());
            values.push_back(entry.Buffer());
        }
        const Pointers key_pointers(keys), value_pointers(values);
        rados_write_op_omap_set2(op, key_pointers.data.data(), value_pointers.data.data(),
                                 key_pointers.sizes.data(), value_pointers.sizes.data(), keys.size());
    }

    std::unique_ptr<void, decltype(&rados_release_write_op)> op_;
};

// What a step of a read operation brings back.
class ReadResult {
public:
    virtual ~ReadResult() = default;
    virtual Value ToValue() { return Value(); }
    int result = 0;
};

class DataResult : public ReadResult {
public:
    DataResult(rados_read_op_t op, uint64_t offset, uint64_t length) : buffer_(length, '\0') {
        rados_read_op_read(op, offset, length, buffer_.data(), &size_, &result);
    }
    Value ToValue() override {
        buffer_.resize(size_);
        return Bytes{std::move(buffer_)};
    }

private:
    std::string buffer_;
    size_t size_ = 0;
};

class StatResult : public ReadResult {
public:
    explicit StatResult(rados_read_op_t op) { rados_read_op_stat(op, &size_, &modified_, &result); }
    Value ToValue() override { return Object{{"size", size_}, {"modifiedAt", Time::Of(modified_)}}; }

private:
    uint64_t size_ = 0;
    time_t modified_ = 0;
};

class XattrsResult : public ReadResult {
public:
    explicit XattrsResult(rados_read_op_t op) { rados_read_op_getxattrs(op, &iterator_, &result); }
    ~XattrsResult() override {
        if (iterator_ != nullptr) rados_getxattrs_end(iterator_);
    }
    Value ToValue() override {
        Array entries;
        for (;;) {
            const char *name, *value;
            size_t size;
            Check("rados_getxattrs_next", rados_getxattrs_next(iterator_, &name, &value, &size));
            if (name == nullptr) return entries;
            entries.push_back(Array{Text("rados_getxattrs_next", name), Bytes{std::string(value, size)}});
        }
    }

private:
    rados_xattrs_iter_t iterator_ = nullptr;
};

class OmapResult : public ReadResult {
public:
    OmapResult() = default;
    ~OmapResult() override {
        if (iterator_ != nullptr) rados_omap_get_end(iterator_);
    }
    void GetAfter(rados_read_op_t op, const std::string& after, const std::string& prefix, uint64_t limit) {
        rados_read_op_omap_get_vals2(op, after.c_str(), prefix.c_str(), limit, &iterator_, &more_, &result);
    }
    void GetByKeys(rados_read_op_t op, const StringList& keys) {
        const Pointers pointers(keys);
        rados_read_op_omap_get_vals_by_keys2(op, pointers.data.data(), keys.size(), pointers.sizes.data(),
                                             &iterator_, &result);
    }
    Value ToValue() override {
        Array entries;
        for (;;) {
            char *key, *value;
            size_t key_size, value_size;
            Check("rados_omap_get_next2",
                  rados_omap_get_next2(iterator_, &key, &value, &key_size, &value_size));
            if (key == nullptr) break;
            entries.push_back(Array{Text("rados_omap_get_next2", std::string(key, key_size)),
                                    Bytes{std::string(value, value_size)}});
        }
        return Object{{"entries", std::move(entries)}, {"more", more_ != 0}};
    }

private:
    rados_omap_iter_t iterator_ = nullptr;
    unsigned char more_ = 0;
};

// What a method of an object class answers.
class ExecResult : public ReadResult {
public:
    ExecResult(rados_read_op_t op, const std::string& object_class, const std::string& method,
               const std::string& input) {
        rados_read_op_exec(op, object_class.c_str(), method.c_str(), input.data(), input.size(), &output_,
                           &size_, &result);
    }
    ~ExecResult() override {
        if (output_ != nullptr) rados_buffer_free(output_);
    }
    Value ToValue() override { return Bytes{std::string(output_, size_)}; }

private:
    char* output_ = nullptr;
    size_t size_ = 0;
};

class ReadOperation {
public:
    ReadOperation() : op_(rados_create_read_op(), rados_release_read_op) {}
    operator rados_read_op_t() const { return op_.get(); }

    void Add(Step step) {
        rados_read_op_t op = op_.get();
        if (step.name() == "read") {
            const auto offset = step.Number();
            results_.push_back(std::make_unique<DataResult>(op, offset, step.Number()));
        } else if (step.name() == "stat") {
            results_.push_back(std::make_unique<StatResult>(op));
        } else if (step.name() == "getXattrs") {
            results_.push_back(std::make_unique<XattrsResult>(op));
        } else if (step.name() == "getOmap") {
            auto omap = std::make_unique<OmapResult>();
            const auto after = step.Text();
            const auto prefix = step.Text();
            omap->GetAfter(op, after, prefix, step.Number());
            results_.push_back(std::move(omap));
        } else if (step.name() == "getOmapByKeys") {
            auto omap = std::make_unique<OmapResult>();
            omap->GetByKeys(op, step.Strings());
            results_.push_back(std::move(omap));
        } else if (step.name() == "exec") {
            const auto object_class = step.Text();
            const auto method = step.Text();
            results_.push_back(std::make_unique<ExecResult>(op, object_class, method, step.Buffer()));
        } else if (step.name() == "assertVersion") {
            rados_read_op_assert_version(op, step.Number());
        } else {
            throw step.arguments().Expected("an array of read steps");
        }
    }

    Value ToValue(const AioResult& result) {
        result.Check();
        Array values;
        for (const auto& each : results_) {
            Check(result.syscall, each->result);
            values.push_back(each->ToValue());
        }
        return Object{{"version", result.version}, {"results", std::move(values)}};
    }

private:
    // librados keeps pointers into the results until the operation is released.
    std::vector<std::unique_ptr<ReadResult>> results_;
    std::unique_ptr<void, decltype(&rados_release_read_op)> op_;
};

int Write(RadosCompletion completion, IoCtx& ioctx, const char* object, WriteOperation* operation,
          bool full_force) {
    const int flags = full_force ? LIBRADOS_OPERATION_FULL_FORCE : LIBRADOS_OPERATION_NOFLAG;
    return rados_aio_write_op_operate(*operation, ioctx, completion, object, nullptr, flags);
}

int Read(RadosCompletion completion, IoCtx& ioctx, const char* object, ReadOperation* operation) {
    return rados_aio_read_op_operate(*operation, ioctx, completion, object, 0);
}

}  // namespace

template <typename Operation>
struct StepsParameter {
    using Stored = std::unique_ptr<Operation>;
    static Stored Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsArray()) throw arguments.Expected("an array of arrays");
        const auto steps = value.As<Napi::Array>();
        auto operation = std::make_unique<Operation>();
        for (uint32_t i = 0; i < steps.Length(); i++)
            operation->Add(Step(arguments, steps.Get(i)));
        return operation;
    }
    static Operation* Pass(const Stored& stored) { return stored.get(); }
};

template <>
struct Parameter<WriteOperation*> : StepsParameter<WriteOperation> {};
template <>
struct Parameter<ReadOperation*> : StepsParameter<ReadOperation> {};

void InitObject(Exports& exports) {
    exports.Aio<Write>("objectWrite", "rados_aio_write_op_operate");
    exports.Aio<Read>("objectRead", "rados_aio_read_op_operate");
}

}  // namespace cephkit
