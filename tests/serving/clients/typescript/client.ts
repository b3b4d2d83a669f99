// Calls every question with few fields. It compiles only if the optional fields of requests are optional in the generated types, and if those
// of answers are there: exactOptionalPropertyTypes and strict are on.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];

const client = createClient<paths>({ baseUrl: process.argv[2]! });
const at = "2026-11-20T19:02:11Z";

function answer<T>(reply: { data?: T; error?: Schemas["Problem"]; response: Response }): Exclude<T, readonly unknown[]> {
  if (reply.data === undefined || Array.isArray(reply.data)) {
    throw new Error(`${reply.response.url}: ${JSON.stringify(reply.error ?? reply.data)}`);
  }
  return reply.data as Exclude<T, readonly unknown[]>;
}

const session: Schemas["PurchasePredictionRequest"] = {
  sessionId: "s-1",
  behaviorData: { pageViews: 1, timeOnSite: 60, currentPage: "/cart", interactions: [{ type: "page_view", timestamp: at }] },
  contextData: { deviceType: "desktop", timeOfDay: 19, dayOfWeek: 5 },
};
const purchase = answer(await client.POST("/v1/purchase-prediction", { body: session }));
const pricing = answer(
  await client.POST("/v1/dynamic-pricing", {
    body: { productId: "p-1", contextData: { currentDemand: 42, inventoryLevel: 400, currentPrice: 29.9 } },
  }),
);
const value = answer(
  await client.POST("/v1/customer-value", {
    body: { customerId: "c-1", summary: { frequency: 3, recencyDays: 100, ageDays: 200, meanSpend: 20 } },
  }),
);
const churn = answer(await client.POST("/v1/churn-prevention", { body: { customerId: "c-1", features: { tenure: 2 } } }));
const journey = answer(
  await client.POST("/v1/journey", { body: { sessionId: "s-2", events: [{ type: "page_view", timestamp: at, pageKind: "home" }] } }),
);
const emotion = answer(await client.POST("/v1/emotion", { body: { text: "Where is my order?" } }));

const wrong = await client.POST("/v1/emotion", { body: { text: "" }, params: { header: { "X-Request-Timeout-Ms": 0 } } });
const field: string | undefined = wrong.error?.field;

// The fields of answers are there, not optional: this is assigned without a check.
const probability: number = purchase.purchaseProbability;
const price: number = pricing.recommendedPrice;
const versions: string[] = [purchase, pricing, value, churn, journey, emotion].map((one) => one.modelVersion);
console.log(JSON.stringify({ probability, price, versions, status: wrong.response.status, field }));
