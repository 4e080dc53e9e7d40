// One autograd node for every operation written in Rust. It knows nothing of what the operation computes: forward
// and backward are callbacks on an opaque operation, which lives exactly as long as the node does.
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <cstdlib>
#include <vector>

#include "bridge.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Where a callback puts the tensors it made; the Rust side keeps its own handles.
struct DimTensorList {
    variable_list tensors;
};

extern "C" {
/// Callbacks return nullptr or a malloc-ed message.
struct DimCallbacks {
    char* (*forward)(void* operation, Tensor* const* inputs, std::size_t input_count, DimTensorList* outputs,
                     DimTensorList* saved);
    char* (*backward)(void* operation, Tensor* const* saved, std::size_t saved_count, Tensor* const* grad_outputs,
                      std::size_t output_count, const bool* needs_gradient, std::size_t input_count,
                      DimTensorList* grad_inputs);
    void (*drop)(void* operation);
};

/// Appends a copy of the handle; nullptr appends an undefined tensor (no gradient).
void dim_tensor_list_push(DimTensorList* list, const Tensor* tensor) {
    list->tensors.push_back(tensor == nullptr ? Tensor() : *tensor);
}
}

namespace {

/// Owns the Rust operation: dropped with the last node or call that holds it.
struct Operation : torch::CustomClassHolder {
    Operation(void* pointer, DimCallbacks callbacks) : pointer(pointer), callbacks(callbacks) {}
    ~Operation() override { callbacks.drop(pointer); }
    void* pointer;
    DimCallbacks callbacks;
};

/// Raises a callback's message as a C++ exception, so that libtorch unwinds its own frames.
void raise_if(char* error) {
    if (error == nullptr) return;
    const std::string text(error);
    std::free(error);
    TORCH_CHECK(false, text);
}

/// Pointers to the tensors, nullptr for the undefined ones.
std::vector<Tensor*> pointers(variable_list& tensors) {
    std::vector<Tensor*> result;
    result.reserve(tensors.size());
    for (auto& tensor : tensors) result.push_back(tensor.defined() ? &tensor : nullptr);
    return result;
}

struct RustFunction : torch::autograd::Function<RustFunction> {
    static variable_list forward(AutogradContext* context, at::TensorList inputs,
                                 const c10::intrusive_ptr<Operation>& operation) {
        variable_list held = inputs.vec();
        auto raw = pointers(held);
        DimTensorList outputs;
        DimTensorList saved;
        raise_if(operation->callbacks.forward(operation->pointer, raw.data(), raw.size(), &outputs, &saved));
        context->set_materialize_grads(false);
        context->save_for_backward(std::move(saved.tensors));
        context->saved_data["operation"] = c10::IValue::make_capsule(operation);
        context->saved_data["input_count"] = static_cast<int64_t>(held.size());
        return std::move(outputs.tensors);
    }

    static variable_list backward(AutogradContext* context, variable_list grad_outputs) {
        TORCH_CHECK(!c10::GradMode::is_enabled(),
                    "this operation has a first derivative only: call backward without create_graph");
        const auto operation =
            c10::static_intrusive_pointer_cast<Operation>(context->saved_data["operation"].toCapsule());
        const auto input_count = static_cast<std::size_t>(context->saved_data["input_count"].toInt());
        variable_list saved = context->get_saved_variables();
        auto raw_saved = pointers(saved);
        auto raw_grads = pointers(grad_outputs);
        // std::vector<bool> has no addressable elements.
        std::unique_ptr<bool[]> needs(new bool[input_count + 1]);
        for (std::size_t i = 0; i < input_count; ++i) needs[i] = context->needs_input_grad(i);
        DimTensorList grad_inputs;
        raise_if(operation->callbacks.backward(operation->pointer, raw_saved.data(), raw_saved.size(), raw_grads.data(),
                                               raw_grads.size(), needs.get(), input_count, &grad_inputs));
        TORCH_CHECK(grad_inputs.tensors.size() == input_count, "backward returned ", grad_inputs.tensors.size(),
                    " gradients, expected one for each of the ", input_count, " inputs");
        grad_inputs.tensors.emplace_back();  // the operation itself has no gradient
        return std::move(grad_inputs.tensors);
    }
};

}  // namespace

extern "C" {
/// Adds the gradients of the leaves behind `outputs`, given those of the outputs, to the leaves' .grad; also from
/// within a backward pass.
char* dim_backward(Tensor* const* outputs, Tensor* const* gradients, std::size_t count) {
    return dim::guarded([&] {
        variable_list of, from;
        for (std::size_t i = 0; i < count; ++i) {
            of.push_back(*outputs[i]);
            from.push_back(*gradients[i]);
        }
        torch::autograd::backward(of, from);
    });
}

/// Takes ownership of `operation` in every case. The outputs are new handles that the caller owns.
char* dim_apply(Tensor* const* inputs, std::size_t input_count, void* operation, DimCallbacks callbacks,
                Tensor** outputs, std::size_t output_capacity, std::size_t* output_count) {
    return dim::guarded([&] {
        const auto holder = c10::make_intrusive<Operation>(operation, callbacks);
        variable_list list;
        list.reserve(input_count);
        for (std::size_t i = 0; i < input_count; ++i) list.push_back(*inputs[i]);
        // Function::apply sees a list of inputs only as at::TensorList; a std::vector would record no graph.
        variable_list results = RustFunction::apply(at::TensorList(list), holder);
        TORCH_CHECK(results.size() <= output_capacity, "operation has ", results.size(), " outputs, at most ",
                    output_capacity, " expected");
        for (std::size_t i = 0; i < results.size(); ++i) outputs[i] = new Tensor(std::move(results[i]));
        *output_count = results.size();
    });
}
}
