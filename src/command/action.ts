/**
 * A request as an approval keeps it: the name of the method and the typed message's ProtoJSON, with what names the attempt and
 * not the change left out. Parsed back when the deciding vote carries it out.
 */
import { type DescMessage, fromJson, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import * as access from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import * as status from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { isObject, type JsonObject } from "../record/json.ts";

/** Requests that policies may make wait, by their method. */
export const ACTIONS = {
  CreateRoleBinding: access.CreateRoleBindingRequestSchema,
  SetAlias: status.SetAliasRequestSchema,
  Transition: status.TransitionRequestSchema,
} as const satisfies Readonly<Record<string, DescMessage>>;

export type ActionName = keyof typeof ACTIONS;

export interface Action {
  readonly method: ActionName;
  readonly request: Message;
}

export function actionOf(method: ActionName, request: Message): JsonObject {
  const json = toJson(ACTIONS[method] as DescMessage, request, { useProtoFieldName: true }) as JsonObject;
  const { request_id: _, validate_only: __, ...parameters } = json;
  return { method, request: parameters };
}

/** Undefined for what `actionOf` did not write. */
export function parseAction(action: JsonObject): Action | undefined {
  const { method, request } = action;
  if (typeof method !== "string" || !Object.hasOwn(ACTIONS, method) || !isObject(request)) return undefined;
  const name = method as ActionName;
  return { method: name, request: fromJson(ACTIONS[name] as DescMessage, request as unknown as JsonValue) };
}
